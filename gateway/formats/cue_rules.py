"""What a subtitle may look like: its size on the screen, its time, and the reader's speed."""

from dataclasses import dataclass, replace

_LINE_LIMITS = {"Chinese": 32, "Cantonese": 32, "Japanese": 26, "Korean": 32, "Thai": 35}
# Netflix Timed Text Style Guides, in columns: 9 characters a second for Chinese, 12 for Korean, and
# for Japanese 7, as for verbatim subtitles (4 is for translations, which leave words out).
_READING_SPEEDS = {
    "English": 20.0,
    "Chinese": 18.0,
    "Cantonese": 18.0,
    "Japanese": 14.0,
    "Korean": 24.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CueRules:
    """Times are seconds. Widths are columns, of which a wide (East Asian) character takes two.

    Raises ValueError, whose text is fit for the caller, where the rules contradict each other.
    """

    language: str | None = None
    """English name; tells which words should stay together."""
    max_line_chars: int = 42
    """In columns: 42 are 21 Chinese characters."""
    max_lines: int = 2
    min_duration: float = 0.833
    """20 frames at 24 a second; kept where the next cue leaves the time."""
    max_duration: float = 7.0
    reading_speed: float = 17.0
    """Columns a second; kept where speech is slow enough."""
    gap: float = 0.083
    """Time without text between two cues: two frames at 24 a second."""
    pause: float = 0.6
    """Silence that always ends a cue; mostly long enough to keep a short word before it on screen
    for min_duration."""
    linger: float = 0.5
    """How long a cue may stay behind its last word for the reader's sake; pauses shorter than this
    are bridged."""

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise ValueError("; ".join(faults))


def rules_for(
    language: str | None,
    *,
    max_line_chars: int | None = None,
    max_lines: int | None = None,
    min_duration: float | None = None,
    max_duration: float | None = None,
    reading_speed: float | None = None,
    gap: float | None = None,
    pause: float | None = None,
    linger: float | None = None,
) -> CueRules:
    """The rules of a language (English name), with what the caller asks for instead; None: default.

    Raises ValueError as CueRules does.
    """
    wishes = {
        "max_line_chars": max_line_chars,
        "max_lines": max_lines,
        "min_duration": min_duration,
        "max_duration": max_duration,
        "reading_speed": reading_speed,
        "gap": gap,
        "pause": pause,
        "linger": linger,
    }
    usual = CueRules(
        language=language,
        max_line_chars=_LINE_LIMITS.get(language or "", CueRules().max_line_chars),
        reading_speed=_READING_SPEEDS.get(language or "", CueRules().reading_speed),
    )
    return replace(usual, **{k: v for k, v in wishes.items() if v is not None})  # type: ignore[arg-type]


def _faults(rules: CueRules) -> list[str]:
    limits: tuple[tuple[str, float, float], ...] = (
        ("max_line_chars", 8, 250),
        ("max_lines", 1, 3),
        ("min_duration", 0.1, 10),
        ("max_duration", 0.5, 60),
        ("reading_speed", 1, 1000),
        ("gap", 0, 1),
        ("pause", 0.1, 60),
        ("linger", 0, 5),
    )
    faults = [
        f"{name} must be from {low:g} to {high:g}"
        for name, low, high in limits
        if not low <= getattr(rules, name) <= high
    ]
    if rules.min_duration > rules.max_duration:
        faults.append("min_duration must not exceed max_duration")
    return faults
