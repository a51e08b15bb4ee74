"""Prints cues as subtitle files: SubRip, WebVTT, Advanced SubStation Alpha, LRC. Pure.

Lines end in LF; no byte order mark. Without cues a file is what its format calls empty.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from gateway.formats.cues import Cue, CueWord

_VTT_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
# SubRip has no escapes: players take tags, and braces as ASS and MicroDVD have them, for commands,
# and hide unknown ones. Similar characters read the same.
_SRT_TAG = re.compile(r"<(/?[A-Za-z][^<>]*)>")
_SRT_BRACES = str.maketrans({"{": "｛", "}": "｝"})
# VSFilter knows no escapes, and libass only some: braces would hide text, a backslash may begin a
# command. Fullwidth braces and a word joiner behind the backslash read the same everywhere.
_ASS_ESCAPES = str.maketrans({"{": "｛", "}": "｝", "\\": "\\\u2060"})
_ASS_NAME = str.maketrans({",": " ", "\n": " "})
_ASS_HEADER = """\
[Script Info]
ScriptType: v4.00+
WrapStyle: 2
ScaledBorderAndShadow: yes
PlayResX: 1920
PlayResY: 1080

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, \
Bold, Italic, Underline, StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, \
Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,64,&H00FFFFFF,&H0000D7FF,&H00000000,&H80000000,\
0,0,0,0,100,100,0,0,1,3,1,2,96,96,54,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


def srt(cues: Iterable[Cue]) -> str:
    """SubRip. An arrow in the text is written shorter, or a reader would take it for a time."""
    return "".join(
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n"
        + _srt_text("\n".join(cue.lines))
        + "\n\n"
        for number, cue in enumerate(cues, start=1)
    )


def vtt(cues: Iterable[Cue], *, word_times: bool = False) -> str:
    """WebVTT; speakers as voices. word_times puts a time tag before each word of a cue but the
    first."""
    return "WEBVTT\n\n" + "".join(_vtt_block(cue, word_times) for cue in cues)


def ass(cues: Iterable[Cue], *, karaoke: bool = False) -> str:
    """Advanced SubStation Alpha; karaoke colours each word as it is said."""
    return _ASS_HEADER + "".join(
        f"Dialogue: 0,{_ass_clock(_centis(cue.start))},{_ass_clock(_ass_end(cue))},Default,"
        f"{(cue.speaker or '').translate(_ASS_NAME)},0,0,0,,{_ass_text(cue, karaoke)}\n"
        for cue in cues
    )


def lrc(cues: Iterable[Cue]) -> str:
    """Lyrics: one line for each cue, at its start. Minutes go on behind 59."""
    return "".join(f"[{_lrc_clock(cue.start)}]{cue.text}\n" for cue in cues)


def _srt_text(text: str) -> str:
    text = text.replace("-->", "->").translate(_SRT_BRACES)
    return _SRT_TAG.sub(r"‹\1›", text)


def _clock(seconds: float, separator: str) -> str:
    minutes, millis = divmod(round(seconds * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{millis // 1000:02}{separator}{millis % 1000:03}"


def _vtt_block(cue: Cue, word_times: bool) -> str:
    lines = [line.translate(_VTT_ESCAPES) for line in cue.lines]
    if word_times and cue.words:
        lines = list(_vtt_timed_lines(cue))
    voice = f"<v {cue.speaker.translate(_VTT_ESCAPES)}>" if cue.speaker else ""
    times = f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}"
    return f"{times}\n{voice}" + "\n".join(lines) + "\n\n"


def _vtt_timed_lines(cue: Cue) -> Iterator[str]:
    # Time tags must lie inside the cue, each behind the one before it.
    time = cue.start
    for words in words_by_line(cue):
        line = ""
        for i, word in enumerate(words):
            line += " " if word.follows_space and i else ""
            if time < word.start < cue.end:
                time = word.start
                line += f"<{_clock(time, '.')}>"
            line += word.text.translate(_VTT_ESCAPES)
        yield line


def words_by_line(cue: Cue) -> list[list[CueWord]]:
    """A cue's words as its lines hold them."""
    words = iter(cue.words)
    lines = []
    for line in cue.lines:
        held: list[CueWord] = []
        missing = len(line)
        while missing > 0 and (word := next(words, None)) is not None:
            missing -= len(word.text) + (1 if word.follows_space and held else 0)
            held.append(word)
        lines.append(held)
    return lines


def _ass_text(cue: Cue, karaoke: bool) -> str:
    if karaoke and cue.words:
        return "\\N".join(_ass_karaoke_lines(cue))
    return "\\N".join(line.translate(_ASS_ESCAPES) for line in cue.lines)


def _ass_karaoke_lines(cue: Cue) -> Iterator[str]:
    """Each word lasts until the next one starts, so that all together last as long as the cue."""
    starts = [_centis(word.start) for word in cue.words[1:]]
    edges: Sequence[int] = [_centis(cue.start), *starts, _ass_end(cue)]
    position = 0
    for words in words_by_line(cue):
        line = ""
        for i, word in enumerate(words):
            line += " " if word.follows_space and i else ""
            lasts = edges[position + 1] - edges[position]
            line += f"{{\\k{lasts}}}{word.text.translate(_ASS_ESCAPES)}"
            position += 1
        yield line


def _centis(seconds: float) -> int:
    return (round(seconds * 1000) + 5) // 10


def _ass_end(cue: Cue) -> int:
    return max(_centis(cue.end), _centis(cue.start) + 1)


def _ass_clock(centis: int) -> str:
    minutes, centis = divmod(centis, 6000)
    return f"{minutes // 60}:{minutes % 60:02}:{centis // 100:02}.{centis % 100:02}"


def _lrc_clock(seconds: float) -> str:
    minutes, centis = divmod(_centis(seconds), 6000)
    return f"{minutes:02}:{centis // 100:02}.{centis % 100:02}"
