"""The closed list of reasons a request can end without its text, for both ends of the link."""

from enum import StrEnum


class FailureCode(StrEnum):
    """Why a request failed. docs/protocol.md says who sends which; the gateway gives the status."""

    AUDIO_UNDECODABLE = "audio_undecodable"
    """Nothing in the upload could be read as audio. The caller's to mend."""
    AUDIO_TOO_LONG = "audio_too_long"
    """More decoded seconds than the limit. The caller's to mend."""
    AUDIO_LIMITS = "audio_limits"
    """Sample rate, channels or cost of decoding out of range. The caller's to mend."""
    AUDIO_TRACK_MISSING = "audio_track_missing"
    """The recording has no audio track of the number asked for. The caller's to mend."""
    CHANNELS_MISSING = "channels_missing"
    """Speakers were to be told apart by channel, and the recording does not have two. The caller's
    to mend."""
    CANCELLED = "cancelled"
    """The caller left; nobody waits for the answer."""
    INFERENCE_FAILED = "inference_failed"
    """The engine could not transcribe a chunk although it lives and serves others."""
    INPUT_LOST = "input_lost"
    """The upload is gone from the spool, or could not be pulled from the gateway."""
    WORKER_FAILED = "worker_failed"
    """The engine died under this request more often than it is retried."""
    WORKER_UNAVAILABLE = "worker_unavailable"
    """No engine became ready: none connected, starting failed, or starting took too long."""
    QUEUE_FULL = "queue_full"
    """More requests wait than the gateway keeps."""
    TIMED_OUT = "timed_out"
    """REQUEST_TIMEOUT seconds passed without progress."""
    CUT_DIFFERENTLY = "cut_differently"
    """The chunks done by an earlier engine do not end where this engine's do. From the start, then.
    """
    STORAGE_FULL = "storage_full"
    """The gateway's disk has no room for the text."""
    SHUTTING_DOWN = "shutting_down"
    """The process that held the request is ending."""
