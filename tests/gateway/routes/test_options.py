import pytest

from gateway.errors import BadRequest
from gateway.multipart import Form
from gateway.routes.options import TranscriptionOptions, parse_options


def parse(*fields: tuple[str, str]) -> TranscriptionOptions:
    return parse_options(Form(fields))


def refused(*fields: tuple[str, str]) -> BadRequest:
    with pytest.raises(BadRequest) as caught:
        parse(*fields)
    return caught.value


def test_nothing_asked_is_json_in_whatever_language() -> None:
    assert parse() == TranscriptionOptions("json", None, "", (), 0.0)


def test_fields_sent_empty_count_as_left_out() -> None:
    names = ("response_format", "language", "prompt", "temperature", "stream", "keywords[]")

    assert parse(*((name, "") for name in names)) == TranscriptionOptions()


def test_fields_nobody_here_knows_are_ignored() -> None:
    assert (
        parse(
            ("model", "gpt-4o-transcribe"),
            ("return_timestamps", "true"),
            ("known_speakers[]", "agent"),
            ("anything", "else"),
        )
        == TranscriptionOptions()
    )


@pytest.mark.parametrize("text", ["en", "EN", "en-US", "English", " english "])
def test_language_is_taken_in_every_spelling(text: str) -> None:
    assert parse(("language", text)).language == "English"


@pytest.mark.parametrize("text", ["auto", "AUTO", ""])
def test_language_may_be_left_to_the_model(text: str) -> None:
    assert parse(("language", text)).language is None


def test_one_candidate_language_decides_and_of_several_the_model_chooses() -> None:
    one = parse(("languages[]", "de"))
    several = parse(("languages[]", "de"), ("languages[]", "en"), ("languages[]", "de-AT"))
    decided = parse(("languages[]", "de"), ("languages[]", "en"), ("language", "en"))

    assert (one.language, one.languages) == ("German", ())
    assert (several.language, several.languages) == (None, ("German", "English"))
    assert (decided.language, decided.languages) == ("English", ())


def test_a_candidate_that_means_any_language_restricts_nothing() -> None:
    options = parse(("languages[]", "de"), ("languages[]", "auto"))

    assert (options.language, options.languages) == (None, ())
    assert parse(("languages", '["de", "en"]'), ("language", "auto")).languages == (
        "German",
        "English",
    )


def test_language_outside_the_candidates_is_a_contradiction() -> None:
    assert refused(("languages[]", "de"), ("language", "en")).param == "language"


def test_unknown_language_is_told_which_are_known() -> None:
    error = refused(("language", "Klingon"))

    assert "English (en)" in error.message
    assert error.param == "language"


@pytest.mark.parametrize("wish", ["json", "text", "srt", "vtt", "verbose_json", "diarized_json"])
def test_every_format_of_openai_is_known_in_any_case(wish: str) -> None:
    assert parse(("response_format", f" {wish.upper()} ")).response_format == wish


@pytest.mark.parametrize("wish", ["ass", "lrc"])
def test_further_subtitle_formats_are_known(wish: str) -> None:
    assert parse(("response_format", wish)).response_format == wish


@pytest.mark.parametrize("wish", ["xml", "tsv", "json5"])
def test_format_that_is_not_served_names_those_that_are(wish: str) -> None:
    error = refused(("response_format", wish))

    assert error.code == "unsupported_value"
    assert "json, text" in error.message


@pytest.mark.parametrize(
    ("text", "is_streamed"),
    [("true", True), ("True", True), ("1", True), ("false", False), ("0", False), ("", False)],
)
def test_stream_is_a_boolean_in_any_spelling(text: str, is_streamed: bool) -> None:
    assert parse(("stream", text)).is_streamed is is_streamed


def test_stream_is_nothing_else() -> None:
    assert (refused(("stream", "maybe")).param, refused(("stream", "maybe")).code) == (
        "stream",
        "invalid_value",
    )


@pytest.mark.parametrize("wish", ["srt", "vtt", "ass", "lrc"])
def test_subtitles_are_not_streamed(wish: str) -> None:
    error = refused(("stream", "true"), ("response_format", wish))

    assert (error.param, error.code) == ("response_format", "unsupported_value")


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe-diarize", "Qwen/Qwen3-ASR-1.7B"])
def test_every_model_name_streams(model: str) -> None:
    assert parse(("model", model), ("stream", "true")).is_streamed


@pytest.mark.parametrize(
    "fields",
    [
        [("timestamp_granularities[]", "word"), ("timestamp_granularities[]", "segment")],
        [("timestamp_granularities", "word"), ("timestamp_granularities", "segment")],
        [("timestamp_granularities[0]", "word"), ("timestamp_granularities[1]", "segment")],
        [("timestamp_granularities", '["word", "segment"]')],
        [("timestamp_granularities[]", '["word", "segment"]')],
    ],
)
def test_lists_are_taken_in_every_encoding(fields: list[tuple[str, str]]) -> None:
    assert parse(*fields).granularities == ("word", "segment")


@pytest.mark.parametrize(
    "fields",
    [
        [("chunking_strategy", "auto")],
        [("chunking_strategy", "")],
        [("chunking_strategy", '{"type": "server_vad", "threshold": 0.5}')],
        [
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy[threshold]", "0.5"),
            ("chunking_strategy[silence_duration_ms]", "200"),
        ],
    ],
)
def test_chunking_strategy_is_taken_in_every_encoding(fields: list[tuple[str, str]]) -> None:
    assert parse(*fields) == TranscriptionOptions()


@pytest.mark.parametrize("name", ["include", "include[]", "include[0]"])
def test_logprobs_are_asked_for_in_every_encoding(name: str) -> None:
    assert parse((name, "logprobs")).wants_logprobs
    assert parse(("include", '["logprobs"]')).wants_logprobs
    assert not parse((name, "")).wants_logprobs


@pytest.mark.parametrize("word", ["null", "None", "undefined", " NULL ", ""])
def test_words_for_nothing_leave_choices_out_and_stay_words_in_texts(word: str) -> None:
    choices = (
        *("response_format", "language", "languages[]", "temperature", "stream", "audio_track"),
        *("include[]", "timestamp_granularities[]", "use_previous_context", "word_times"),
        *("max_lines", "max_line_chars", "max_cue_seconds", "chunking_strategy"),
    )

    assert parse(*((name, word) for name in choices)) == TranscriptionOptions()
    texts = parse(("prompt", "null"), ("keywords[]", "None"))
    assert (texts.prompt, texts.keywords) == ("null", ("None",))


def test_progress_is_asked_for_alone_or_with_logprobs() -> None:
    alone = parse(("include[]", "progress"))
    both = parse(("include[]", "logprobs"), ("include[]", "progress"))

    assert (alone.wants_progress, alone.wants_logprobs) == (True, False)
    assert (both.wants_progress, both.wants_logprobs) == (True, True)
    assert not parse(("include[]", "logprobs")).wants_progress


def test_nothing_else_can_be_included() -> None:
    assert refused(("include[]", "words")).param == "include"


def test_known_speakers_need_a_reference_each() -> None:
    pair = (("known_speaker_names[]", "agent"), ("known_speaker_references[]", ""))

    assert parse(*pair) == TranscriptionOptions()
    assert refused(pair[0]).param == "known_speaker_names"
    assert refused(pair[1]).param == "known_speaker_names"


def test_extensions_are_read() -> None:
    options = parse(
        ("use_previous_context", "true"),
        ("audio_track", "2"),
        ("word_times", "1"),
        ("max_line_chars", "30"),
        ("max_lines", "1"),
        ("min_cue_seconds", "0.5"),
        ("max_cue_seconds", "5"),
        ("max_chars_per_second", "12.5"),
    )

    assert options.uses_previous_context
    assert options.audio_track == 2
    assert options.has_word_times
    assert options.cue_rules == {
        "max_line_chars": 30,
        "max_lines": 1,
        "min_duration": 0.5,
        "max_duration": 5.0,
        "reading_speed": 12.5,
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("use_previous_context", "perhaps"),
        ("word_times", "perhaps"),
        ("audio_track", "-1"),
        ("audio_track", "one"),
        ("audio_track", "100"),
        ("audio_track", "9" * 5000),
        ("max_line_chars", "3"),
        ("max_line_chars", "42.5"),
        ("max_line_chars", "9" * 5000),
        ("max_lines", "0"),
        ("max_lines", "40"),
        ("min_cue_seconds", "nan"),
        ("max_cue_seconds", "-1"),
        ("max_cue_seconds", "inf"),
        ("max_cue_seconds", "4000"),
        ("max_chars_per_second", "fast"),
        ("max_chars_per_second", "0"),
    ],
)
def test_extensions_that_make_no_sense_are_refused_by_name(name: str, value: str) -> None:
    error = refused((name, value))

    assert error.param == name
    assert name in error.message


def test_cue_rules_that_contradict_each_other_are_refused_in_the_callers_words() -> None:
    error = refused(("min_cue_seconds", "5"), ("max_cue_seconds", "2"))

    assert error.message == "min_cue_seconds must not exceed max_cue_seconds."


@pytest.mark.parametrize(("text", "value"), [("0", 0.0), ("0.2", 0.2), ("1", 1.0), ("1e-1", 0.1)])
def test_temperature_from_zero_to_one_is_taken(text: str, value: float) -> None:
    assert parse(("temperature", text)).temperature == value


@pytest.mark.parametrize("text", ["-0.1", "1.01", "nan", "inf", "warm"])
def test_other_temperatures_are_refused(text: str) -> None:
    assert refused(("temperature", text)).param == "temperature"


def test_prompt_and_keywords_have_limits_at_n_and_n_plus_one() -> None:
    assert len(parse(("prompt", "ä" * 4096)).prompt) == 4096
    assert refused(("prompt", "ä" * 4096 + "a")).param == "prompt"
    assert len(parse(*[("keywords[]", "a")] * 256).keywords) == 256
    assert refused(*[("keywords[]", "a")] * 257).param == "keywords"
    assert parse(("keywords", "a" * 8192)).keywords == ("a" * 8192,)
    assert refused(("keywords", "a" * 8193)).param == "keywords"


def test_timestamp_granularities_are_checked() -> None:
    assert parse(("timestamp_granularities[]", "word")).granularities == ("word",)
    assert parse(("timestamp_granularities[]", "")).granularities == ("segment",)
    assert refused(("timestamp_granularities[]", "letter")).param == "timestamp_granularities"
