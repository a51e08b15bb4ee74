import numpy as np
import pytest

from tests import speech


def test_identical_texts_have_no_errors() -> None:
    assert speech.word_errors("one two three", "one two three") == 0


def test_words_replaced_dropped_and_added_are_counted() -> None:
    assert speech.word_errors("one two three", "one four three") == 1
    assert speech.word_errors("one two three", "one three") == 1
    assert speech.word_errors("one two", "one nine two") == 1
    assert speech.word_errors("", "one two") == 2
    assert speech.word_errors("one two", "") == 2
    assert speech.word_errors("a b c d", "b c d e") == 2


def test_rate_is_errors_per_word_spoken() -> None:
    assert speech.word_error_rate([("one two three four", "one two"), ("five", "five")]) == 0.4


def test_no_rate_without_words() -> None:
    with pytest.raises(ValueError, match="at least one spoken word"):
        speech.word_error_rate([("", "one")])


def test_sounds_without_speech_are_many_and_always_the_same() -> None:
    first, again = speech.non_speech_clips(), speech.non_speech_clips()

    assert len(first) >= 100
    assert len({sound.name for sound in first}) == len(first)
    for one, other in zip(first, again, strict=True):
        assert one.samples.dtype == np.float32
        assert np.abs(one.samples).max(initial=0) <= 1
        assert np.array_equal(one.samples, other.samples)


def test_a_telephone_line_keeps_length_and_level() -> None:
    moments = np.arange(16_000) / 16_000
    tone = (0.25 * np.sin(2 * np.pi * 440 * moments)).astype(np.float32)

    heard = speech.mulaw_8k(tone)

    assert heard.shape == tone.shape
    noise = np.mean((heard - tone)[800:-800] ** 2) / np.mean(tone**2)
    # G.711 promises a signal-to-distortion ratio of about 37 dB at these levels.
    assert 33 < -10 * np.log10(noise) < 42


def test_a_level_is_that_of_the_audible_part() -> None:
    samples = np.concatenate([np.zeros(8000), np.tile([0.3, -0.3], 4000)]).astype(np.float32)

    quiet = speech.at_level(samples, -48)

    assert 20 * np.log10(np.sqrt(np.mean(quiet[8000:] ** 2))) == pytest.approx(-48, abs=0.1)


@speech.needs_human_speech
def test_strings_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    first, again = (speech.digit_strings("theo", 3, seed=1) for _ in range(2))
    other = speech.digit_strings("theo", 3, seed=2)

    assert [spoken.text for spoken in first] == [spoken.text for spoken in again]
    assert all(np.array_equal(a.samples, b.samples) for a, b in zip(first, again, strict=True))
    assert [spoken.text for spoken in first] != [spoken.text for spoken in other]


@speech.needs_human_speech
def test_strings_have_the_digits_asked_for() -> None:
    strings = speech.digit_strings("george", 40, seed=1, digits=(3, 5))

    assert {len(spoken.text.split()) for spoken in strings} == {3, 4, 5}


@speech.needs_human_speech
def test_only_recordings_never_trained_on_are_used() -> None:
    for speaker in speech.KNOWN_SPEAKERS:
        assert [len(takes) for takes in speech.held_out(speaker)] == [5] * 10
    assert [len(takes) for takes in speech.held_out(speech.UNSEEN_SPEAKER)] == [50] * 10


@speech.needs_human_speech
def test_a_long_string_is_its_parts_in_a_row() -> None:
    spoken = speech.long_string(60, "lucas", seed=1)

    assert 50 < spoken.seconds <= 60
    assert spoken.text == " ".join(part.text for part in spoken.parts)
    joined = np.concatenate([part.samples for part in spoken.parts])
    assert np.array_equal(spoken.samples, joined)


@speech.needs_human_speech
def test_an_unknown_speaker_is_named() -> None:
    with pytest.raises(ValueError, match="nobody"):
        speech.held_out("nobody")
