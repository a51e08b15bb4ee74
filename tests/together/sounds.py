"""Uploads for tests that do not listen to them."""

import io
import wave


def wav(samples: int) -> bytes:
    """A 16 kHz mono WAV file of a 200 Hz square wave."""
    half = 40
    period = b"\x00\x20" * half + b"\x00\xe0" * half
    content = (period * (samples // (2 * half) + 1))[: 2 * samples]
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(16000)
        writer.writeframes(content)
    return file.getvalue()
