"""The ways a request fails on the gateway's side of the link, in words for its caller."""

from gateway.worker_client.interface import TranscriptionFailed
from protocol.failures import FailureCode

RETRY_AFTER = 5.0
"""Seconds after which a caller may try again, where nothing better is known."""


def shutting_down() -> TranscriptionFailed:
    """The gateway ends."""
    text = "The server is shutting down. Try again in a moment."
    return TranscriptionFailed(FailureCode.SHUTTING_DOWN, text, retry_after=RETRY_AFTER)


def queue_full() -> TranscriptionFailed:
    """MAX_WAITING_REQUESTS wait already."""
    text = "Too many recordings are waiting. Try again in a moment."
    return TranscriptionFailed(FailureCode.QUEUE_FULL, text, retry_after=RETRY_AFTER)


def storage_full() -> TranscriptionFailed:
    """A finished chunk could not be stored."""
    text = "The server has no disk space left. Try again later."
    return TranscriptionFailed(FailureCode.STORAGE_FULL, text, retry_after=RETRY_AFTER)


def not_stored() -> TranscriptionFailed:
    """A finished chunk could not be stored, and not for want of space."""
    text = "The server could not keep its work on this recording. Try again."
    return TranscriptionFailed(FailureCode.INPUT_LOST, text, retry_after=RETRY_AFTER)


def miscounted() -> TranscriptionFailed:
    """The engine says it is done, but chunks are missing."""
    text = "Parts of the recording were lost on the way. Try again."
    return TranscriptionFailed(FailureCode.INFERENCE_FAILED, text, retry_after=RETRY_AFTER)


def engines_lost() -> TranscriptionFailed:
    """More engines were lost under it than a request is given."""
    text = "The speech engine was lost again and again. Try again later."
    return TranscriptionFailed(FailureCode.WORKER_FAILED, text, retry_after=RETRY_AFTER)


def timed_out() -> TranscriptionFailed:
    """REQUEST_TIMEOUT seconds without progress."""
    text = "The recording made no progress for too long. Try again."
    return TranscriptionFailed(FailureCode.TIMED_OUT, text, retry_after=RETRY_AFTER)


def poison() -> TranscriptionFailed:
    """Engines died under it, also when it ran alone."""
    text = "This recording ended the speech engine several times and is not tried again."
    return TranscriptionFailed(FailureCode.WORKER_FAILED, text)


def too_many_sessions() -> TranscriptionFailed:
    """MAX_LIVE_SESSIONS are open."""
    text = "Too many live sessions are open. Try again in a moment."
    return TranscriptionFailed(FailureCode.QUEUE_FULL, text, retry_after=RETRY_AFTER)


def poison_session() -> TranscriptionFailed:
    """Engines died under a live session, again and again at the same place."""
    text = "The speech engine ended several times during this session. Open a new one."
    return TranscriptionFailed(FailureCode.WORKER_FAILED, text)


def unavailable(reason: str, retry_after: float | None = None) -> TranscriptionFailed:
    """No engine is there, and none will be in time."""
    text = f"Speech recognition is not available: {reason.rstrip('.')}."
    return TranscriptionFailed(
        FailureCode.WORKER_UNAVAILABLE, text, retry_after=retry_after or RETRY_AFTER
    )
