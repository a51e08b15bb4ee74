"""Why a recording gives no samples: `UndecodableAudio` is the caller's fault, the rest is ours."""

from dataclasses import asdict
from typing import Final

from worker.audio.decode_messages import DecodeLimits


class UndecodableAudio(Exception):
    """The file is at fault. `code` is one of the protocol's audio_* codes; the text, which is
    fit for the caller, says what to do."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DecoderFailed(Exception):
    """The decoder could not run or was killed from outside; the file may be good: try again."""


class DecodingClosed(Exception):
    """close() was called while the recording was being decoded."""


def refusal(reason: str, limits: DecodeLimits, audio_tracks: int = 0) -> UndecodableAudio:
    """What the caller is told for a reason the decoder child gives; unknown ones are crashes.

    `audio_tracks`: how many the file has, where the one that was asked for is not among them.
    """
    code, text = _REFUSALS.get(reason, _REFUSALS["crashed"])
    facts = asdict(limits) | {"audio_tracks": audio_tracks}
    return UndecodableAudio(code, text.format(**facts))


# What the child reports: (code, text).
_REFUSALS: Final = {
    "not_audio": (
        "audio_undecodable",
        "No audio could be read from this file: it is empty, damaged or no recording. "
        "Send WAV, FLAC, MP3, M4A, OGG, WebM or another common audio or video format.",
    ),
    "no_audio": (
        "audio_undecodable",
        "The file has no audio track. Send one that has sound.",
    ),
    "no_such_track": (
        "audio_track_missing",
        "The file has no audio track of that number: it has {audio_tracks}, counted from 0. "
        "Leave audio_track out to get the default one.",
    ),
    "unknown_codec": (
        "audio_undecodable",
        "The audio track is in a format that is not supported or is protected. "
        "Convert it to WAV, FLAC, MP3, AAC or Opus and send it again.",
    ),
    "sample_rate": (
        "audio_limits",
        "The sample rate is outside {min_sample_rate} to {max_sample_rate} Hz. "
        "Convert the recording, best to 16000 Hz, and send it again.",
    ),
    "channels": (
        "audio_limits",
        "The recording has more than {max_channels} channels. Mix it down and send it again.",
    ),
    "too_long": (
        "audio_too_long",
        "The recording is longer than {max_seconds:.0f} s. Split it and send the parts.",
    ),
    "too_costly": (
        "audio_limits",
        "Decoding the file takes more time or memory than one recording is allowed. "
        "Convert it to WAV or FLAC and send it again.",
    ),
    "broke_off": (
        "audio_undecodable",
        "The file is damaged or not complete. Send it again.",
    ),
    "crashed": (
        "audio_undecodable",
        "The file is damaged in a way the decoder does not survive. "
        "Convert it to WAV or FLAC and send it again.",
    ),
}
