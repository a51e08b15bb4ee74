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
            ("include[]", "logprobs"),
            ("chunking_strategy[type]", "server_vad"),
            ("chunking_strategy", '{"type": "server_vad"}'),
            ("return_timestamps", "true"),
            ("known_speaker_names[]", "agent"),
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


def test_one_candidate_language_decides_and_several_do_not() -> None:
    assert parse(("languages[]", "de")).language == "German"
    assert parse(("languages[]", "de"), ("languages[]", "en")).language is None
    assert parse(("languages[]", "de"), ("languages[]", "en"), ("language", "en")).language == (
        "English"
    )


def test_language_outside_the_candidates_is_a_contradiction() -> None:
    assert refused(("languages[]", "de"), ("language", "en")).param == "language"


def test_unknown_language_is_told_which_are_known() -> None:
    error = refused(("language", "Klingon"))

    assert "English (en)" in error.message
    assert error.param == "language"


@pytest.mark.parametrize("wish", ["text", "TEXT", " text "])
def test_text_format_is_known_in_any_case(wish: str) -> None:
    assert parse(("response_format", wish)).response_format == "text"


@pytest.mark.parametrize("wish", ["srt", "vtt", "verbose_json", "diarized_json", "xml"])
def test_format_that_is_not_served_names_those_that_are(wish: str) -> None:
    error = refused(("response_format", wish))

    assert error.code == "unsupported_value"
    assert "json, text" in error.message


def test_streaming_is_refused_rather_than_silently_ignored() -> None:
    assert refused(("stream", "true")).code == "unsupported_value"
    assert refused(("stream", "maybe")).code == "invalid_value"
    assert parse(("stream", "false")) == TranscriptionOptions()


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
    assert parse(("timestamp_granularities[]", "word")) == TranscriptionOptions()
    assert refused(("timestamp_granularities[]", "letter")).param == "timestamp_granularities"
