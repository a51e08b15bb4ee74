"""Which recordings can be decoded front to back while they still arrive. Pure, from first bytes."""

HEAD_BYTES = 4096
"""As much of a recording tells."""
TS_PACKET_BYTES = 188


def reads_front_to_back(head: bytes) -> bool:
    """Whether a file that begins so needs nothing of its end; False where that is not certain."""
    if head[8:12] == b"WAVE":
        return head[:4] in (b"RIFF", b"RF64")
    if head[4:8] == b"ftyp":
        return _has_index_first(head)
    if head.startswith((b"fLaC", b"OggS", b"\x1a\x45\xdf\xa3", b"ID3")):  # the third is Matroska
        return True
    return _is_mpeg_audio(head) or _is_mpeg_stream(head)


def _has_index_first(head: bytes) -> bool:
    """Of an MP4 (ISO/IEC 14496-12, 4.2): its index, the box moov, comes before the sound."""
    position = 0
    while position + 8 <= len(head):
        size, kind = int.from_bytes(head[position : position + 4], "big"), head[position + 4 :][:4]
        if kind == b"moov":
            return True
        if kind == b"mdat" or size < 8:  # to the end of the file, or in 64 bits: no small box
            return False
        position += size
    return False


def _is_mpeg_audio(head: bytes) -> bool:
    """A frame header of MP3 or AAC: eleven set bits."""
    return len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0


def _is_mpeg_stream(head: bytes) -> bool:
    """A transport stream: packets of equal length, which all begin with the same byte."""
    return (
        len(head) > 2 * TS_PACKET_BYTES and head[: 3 * TS_PACKET_BYTES : TS_PACKET_BYTES] == b"GGG"
    )
