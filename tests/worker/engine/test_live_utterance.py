"""Steps of a growing utterance say what the same audio says to an engine that knows nothing of it.

Random models are never sure; as in test_native_oracle, seeds are such that no two best scores tie.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import accumulate

import numpy as np
import pytest
import soundfile
import torch

from tests.worker.engine.live_steps import (
    FRAME,
    RATE,
    WINDOW,
    CountingRunner,
    Samples,
    Speaker,
    finished,
    fresh,
)
from tests.worker.engine.test_native import (
    SPEECH,
    Answers,
    FailingRunner,
    free_tokens,
    loaded,
    nothing,
)
from tests.worker.engine.test_native_oracle import reference_prompt, sound
from tests.worker.model.tiny_models import END_TOKENS, TinyModel, embedded_model, tiny_model
from worker.engine import native_model, utterances
from worker.engine.interface import ChunkFailure, ChunkKey, ChunkRequest
from worker.engine.memory_plan import BatchLimits
from worker.engine.native import NativeEngine
from worker.kv_arena import Region
from worker.sequence import Priority

END = 480
RANDOM = "groups of 2, odd layers"


def token_limit(samples: int) -> int:
    """Random models write as much as they may: here less than the engine allows."""
    return 24 + 2 * (samples // RATE)


@pytest.fixture(autouse=True)
def fewer_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_model, "output_token_limit", token_limit)


@cache
def speech() -> Samples:
    samples, rate = soundfile.read(SPEECH / "digits_long.flac", dtype="float32")
    assert rate == RATE
    return np.asarray(samples, dtype=np.float32)


@cache
def shared(name: str) -> NativeEngine:
    """Loaded once; every test ends its utterances."""
    return loaded() if name == "embedded" else loaded(tiny_model(name).folder)


def audio_for(name: str, seed: int) -> Samples:
    """16 s that get louder when their first window is complete: the floor under it rises."""
    samples = speech()[seed * 8_000 :] if name == "embedded" else sound(16 * RATE, seed)
    loudness = np.where(np.arange(16 * RATE) < 9 * RATE, 0.02, 1.0).astype(np.float32)
    return samples[: 16 * RATE] * loudness


@pytest.fixture
def engine() -> Iterator[NativeEngine]:
    found = shared("embedded")
    yield found
    left_clean(found)


def left_clean(engine: NativeEngine) -> None:
    for name in list(engine._utterances):
        engine.end_utterance(name)
    assert not engine.has_work
    assert free_tokens(engine) == engine._model.arena.tokens - 64  # the row that padding writes


def a_schedule(seed: int) -> list[int]:
    """Lengths of an utterance's steps: a moment, a packet, a second, or nothing new."""
    generator = np.random.default_rng(seed)
    kinds = [(0, 1), (1, 400), (1_600, 8_000), (8_000, 32_000), (32_000, 64_000)]
    steps = [generator.integers(*kinds[generator.integers(len(kinds))]) for _ in range(9)]
    return [int(length) for length in accumulate(steps) if 0 < length <= 16 * RATE]


def a_draft(said: tuple[int, ...], kind: int) -> tuple[int, ...]:
    """The step before's, or something worse."""
    garbage = tuple(np.random.default_rng(kind).integers(0, 470, 30).tolist())
    return (
        said,
        said,
        (),
        garbage,
        said[: len(said) // 2] + garbage,
        said + said + garbage * 20,
        said[:5] + said[6:],
        said[:3] + garbage[:1] + said[3:],
        (*said[:4], END, *said[4:]),
        (*said[:2], 999999999, -1, *said),
    )[kind]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", ["embedded", RANDOM])
def test_however_it_grows_each_step_says_what_its_audio_says_afresh(name: str, seed: int) -> None:
    engine = shared(name)
    speaker = Speaker(engine, audio_for(name, seed))
    kinds = np.random.default_rng(seed).integers(0, 10, 20).tolist()

    for samples, kind in zip(a_schedule(seed), kinds, strict=False):
        answer = speaker.step(samples, draft=a_draft(speaker.said, kind))

        assert answer == fresh(engine, speaker.audio[:samples]), f"{samples} samples, {kind}"
    left_clean(engine)


@pytest.mark.parametrize(("name", "windows"), [("embedded", (1, 2)), (RANDOM, (1,))])
def test_windows_end_where_they_end_afresh(name: str, windows: tuple[int, ...]) -> None:
    engine = shared(name)
    around = (-FRAME, -40, -1, 0, 1, 39, 40, 41, FRAME, FRAME + 40)
    lengths = [count * WINDOW + offset for count in windows for offset in around]

    Speaker(engine, np.tile(audio_for(name, 3), 2)).says_what_a_fresh_engine_says(lengths)

    left_clean(engine)


def test_less_than_half_a_second_is_padded_and_the_padding_forgotten(engine: NativeEngine) -> None:
    lengths = [0, 1, 199, 200, 201, 4_000, 7_999, 8_000, 8_001, 12_000]

    Speaker(engine, speech()).says_what_a_fresh_engine_says(lengths)


@pytest.mark.parametrize("name", ["embedded", RANDOM])
def test_when_the_floor_rises_what_lay_below_it_is_heard_anew(name: str) -> None:
    engine = shared(name)
    speaker = Speaker(engine, audio_for(name, 2))

    speaker.says_what_a_fresh_engine_says([8 * RATE + 40, 9 * RATE, 9 * RATE + 4_000, 12 * RATE])

    left_clean(engine)


@pytest.mark.parametrize("behind", [0, 1, 3])
@pytest.mark.parametrize("priority", [Priority.LIVE_PARTIAL, Priority.INTERACTIVE])
def test_utterances_and_files_together_say_what_each_says_alone(
    monkeypatch: pytest.MonkeyPatch, behind: int, priority: Priority
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", behind)
    engine = shared(RANDOM)
    file = ChunkRequest(sound(9 * RATE, 77))
    speakers = [Speaker(engine, sound(12 * RATE, seed), f"talk {seed}") for seed in (20, 21)]
    alone = fresh(engine, file.samples)

    for seconds in (4.0, 8.2, 11.0):
        engine.submit(("file", 0), file)
        for _ in range(4):
            engine.step(nothing)
        keys = [speaker.submit(int(seconds * RATE), priority=priority) for speaker in speakers]
        answers = finished(engine)

        assert answers["file", 0] == alone
        for speaker, key in zip(speakers, keys, strict=True):
            speaker.said = answers[key].token_ids
            assert answers[key] == fresh(engine, speaker.audio[: int(seconds * RATE)])
    left_clean(engine)


def test_regions_that_were_taken_in_between_are_filled_anew() -> None:
    engine = shared(RANDOM)
    speaker = Speaker(engine, sound(14 * RATE, 30))
    poison = torch.nan
    for seconds in (3, 9, 10, 12, 14):
        answer = speaker.step(seconds * RATE)
        assert answer == fresh(engine, speaker.audio[: seconds * RATE])
        engine._scheduler.forget(speaker.name)
        for keys, values in engine._model.runner.cache.layers:
            keys.fill_(poison)
            values.fill_(poison)
    left_clean(engine)


def test_whoever_needs_memory_takes_it_from_utterances_between_their_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_model, "CPU_LIMITS", BatchLimits(4, 4096, rows=1))
    engine = loaded(tiny_model(RANDOM).folder, max_chunk_seconds=12.0)
    speakers = [Speaker(engine, sound(12 * RATE, seed), f"talk {seed}") for seed in range(40, 46)]

    for seconds in (2.0, 8.1, 11.5):
        for speaker in speakers:
            answer = speaker.step(int(seconds * RATE))
            assert answer == fresh(engine, speaker.audio[: int(seconds * RATE)])

    assert len(engine._scheduler._parked.regions()) < len(speakers)
    left_clean(engine)


def test_a_displaced_step_says_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native_model, "CPU_LIMITS", BatchLimits(4, 4096, rows=1))
    engine = loaded()
    expected = [fresh(engine, speech()[: seconds * RATE]) for seconds in (6, 10)]
    for steps in range(1, 9):
        speaker = Speaker(engine, speech(), f"talk {steps}")
        assert speaker.step(6 * RATE) == expected[0]
        key = speaker.submit(10 * RATE, priority=Priority.BULK)
        for _ in range(steps):
            engine.step(nothing)
        live = ChunkRequest(speech()[: 3 * RATE], priority=Priority.LIVE_FINAL)
        if key not in engine._running:
            break
        engine.submit(("live", 0), live)

        assert finished(engine)[key] == expected[1]
    assert steps > 4
    left_clean(engine)


@pytest.mark.parametrize("behind", [0, 2])
def test_after_a_cancelled_step_the_next_says_what_it_says_afresh(
    monkeypatch: pytest.MonkeyPatch, behind: int
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", behind)
    engine = shared(RANDOM)
    audio = audio_for(RANDOM, 3)
    expected = fresh(engine, audio[: 11 * RATE])
    for steps in range(16):
        speaker = Speaker(engine, audio, f"talk {steps}")
        speaker.step(9 * RATE)
        key = speaker.submit(10 * RATE, priority=Priority.BULK)
        for _ in range(steps):
            engine.step(nothing)
        engine.cancel(key)

        assert speaker.step(11 * RATE) == expected
    left_clean(engine)


def test_a_step_may_begin_while_the_one_before_still_runs(engine: NativeEngine) -> None:
    lengths = [4 * RATE, 9 * RATE, 9 * RATE, 12 * RATE]
    expected = [fresh(engine, speech()[:samples]) for samples in lengths]
    for steps in range(8):
        speaker = Speaker(engine, speech(), f"talk {steps}")
        keys: list[ChunkKey] = []
        answers: Answers = {}
        for samples in lengths:
            keys.append(speaker.submit(samples))
            for _ in range(steps):
                answers |= engine.step(nothing)
        answers |= finished(engine)

        assert [answers[key] for key in keys] == expected
        assert speaker.step(lengths[-1]) == expected[-1]


def test_an_end_token_in_the_draft_ends_nothing_that_goes_on(engine: NativeEngine) -> None:
    expected = fresh(engine, speech()[: 9 * RATE])
    for place in (0, 3, len(expected.token_ids) - 1, len(expected.token_ids)):
        draft = (*expected.token_ids[:place], END, *expected.token_ids[place:])
        speaker = Speaker(engine, speech(), f"talk {place}")

        assert speaker.step(9 * RATE, draft=draft) == expected


def test_text_that_ends_before_its_draft_does_ends_there(engine: NativeEngine) -> None:
    expected = fresh(engine, speech()[: 4 * RATE])
    longer = fresh(engine, speech()[: 9 * RATE]).token_ids
    assert longer[: len(expected.token_ids)] == expected.token_ids

    assert Speaker(engine, speech()).step(4 * RATE, draft=longer) == expected


def test_the_limit_on_tokens_is_that_of_the_audio_so_far() -> None:
    engine = shared(RANDOM)
    speaker = Speaker(engine, sound(9 * RATE, 60))
    longer = fresh(engine, speaker.audio)

    for samples in (RATE, 2 * RATE, 9 * RATE):
        answer = speaker.step(samples, draft=longer.token_ids)
        assert answer == fresh(engine, speaker.audio[:samples])
        assert answer.is_cut_off
    assert speaker.step(9 * RATE, draft=longer.token_ids) == longer
    left_clean(engine)


def test_logprobs_are_told_of_verified_tokens_too(engine: NativeEngine) -> None:
    expected = fresh(engine, speech()[: 9 * RATE], wants_logprobs=True)
    wrong = (*expected.token_ids[:4], 300, *expected.token_ids[5:])
    speaker = Speaker(engine, speech())
    speaker.step(5 * RATE)

    answer = speaker.step(9 * RATE, draft=wrong, wants_logprobs=True)

    assert answer.logprobs == pytest.approx(expected.logprobs, abs=1e-3)
    assert answer.token_ids == expected.token_ids
    assert [token.content for token in answer.tokens] == [
        token.content for token in expected.tokens
    ]


def test_a_draft_needs_no_utterance(engine: NativeEngine) -> None:
    expected = fresh(engine, speech()[: 5 * RATE])

    assert fresh(engine, speech()[: 5 * RATE], draft=expected.token_ids) == expected
    assert fresh(engine, speech()[: 5 * RATE], draft=expected.token_ids[3:]) == expected


def test_drawn_tokens_are_not_verified(engine: NativeEngine) -> None:
    counted = CountingRunner(engine)
    draft = fresh(engine, speech()[: 5 * RATE]).token_ids
    counted.taken()

    answer = fresh(engine, speech()[: 5 * RATE], draft=draft, temperature=0.01)

    assert answer.token_ids == draft
    assert counted.taken().decoded >= len(draft)
    engine._model.runner = counted._runner


def test_a_changed_context_or_language_is_heard(engine: NativeEngine) -> None:
    speaker = Speaker(engine, speech())
    for samples, fields in (
        (9 * RATE, {}),
        (10 * RATE, {"language": "German"}),
        (11 * RATE, {"context": "digits"}),
        (11 * RATE, {"context": "digits", "language": "English"}),
        (12 * RATE, {}),
    ):
        answer = speaker.step(samples, **fields)

        assert answer == fresh(engine, speech()[:samples], **fields)


def test_audio_that_is_shorter_than_before_is_another_utterance(engine: NativeEngine) -> None:
    speaker = Speaker(engine, speech())
    speaker.step(12 * RATE)
    speaker.audio = speech()[RATE:]

    speaker.says_what_a_fresh_engine_says([9 * RATE, 11 * RATE])


def test_an_ended_utterance_leaves_nothing_behind(engine: NativeEngine) -> None:
    before = free_tokens(engine)
    speaker = Speaker(engine, speech())
    speaker.step(9 * RATE)
    assert free_tokens(engine) < before

    engine.end_utterance(speaker.name)
    engine.end_utterance("never heard of")

    assert free_tokens(engine) == before
    speaker.audio = speech()[5 * RATE :]
    speaker.says_what_a_fresh_engine_says([9 * RATE])


def test_an_utterance_that_ends_during_a_step_leaves_nothing_behind(engine: NativeEngine) -> None:
    before = free_tokens(engine)
    for steps in range(12):
        speaker = Speaker(engine, speech())
        speaker.step(4 * RATE)
        key = speaker.submit(9 * RATE)
        answers: Answers = {}
        for _ in range(steps):
            answers |= engine.step(nothing)
        engine.end_utterance(speaker.name)
        answers |= finished(engine)

        assert answers[key] == fresh(engine, speech()[: 9 * RATE])
        assert free_tokens(engine) == before


def test_utterances_nobody_ends_are_bounded(
    engine: NativeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(utterances, "UTTERANCES_KEPT", 2)
    speakers = [Speaker(engine, speech()[number * RATE :], f"talk {number}") for number in range(4)]
    for samples in (2 * RATE, 9 * RATE):
        for speaker in speakers:
            speaker.says_what_a_fresh_engine_says([samples])

    assert len(engine._utterances) == 2
    assert len(engine._scheduler._parked.regions()) == 2


def test_a_step_that_failed_spoils_none_that_follow(engine: NativeEngine) -> None:
    speaker = Speaker(engine, speech())
    speaker.step(4 * RATE)
    broken = speaker.chunk(9 * RATE)
    noise = broken.samples.copy()
    noise[6 * RATE] = np.nan
    engine.submit(("talk", 99), replace(broken, samples=noise))
    answers: Answers = {}
    while engine.has_work:
        answers |= engine.step(nothing)

    failure = answers["talk", 99]
    assert isinstance(failure, ChunkFailure)
    assert failure.code == "inference_failed"
    speaker.says_what_a_fresh_engine_says([9 * RATE, 12 * RATE])


def test_a_lack_of_memory_takes_what_is_kept_and_spoils_no_step() -> None:
    engine = loaded()
    speaker = Speaker(engine, speech())
    speaker.step(9 * RATE)
    runner = FailingRunner(engine, lambda kind, _batch: MemoryError() if kind == "extend" else None)
    failed = speaker.submit(10 * RATE)
    answers: Answers = {}
    while engine.has_work:
        answers |= engine.step(nothing)
    engine._model.runner = runner._runner

    assert isinstance(answers[failed], ChunkFailure)
    speaker.says_what_a_fresh_engine_says([10 * RATE, 12 * RATE])


def test_a_fault_that_shows_after_a_cancel_leaves_nothing_to_go_on_from(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native_model.NativeModel, "reads_behind", 9)
    engine = shared("embedded")
    speaker = Speaker(engine, speech())
    speaker.step(9 * RATE)
    key = speaker.submit(10 * RATE, priority=Priority.BULK)
    for _ in range(2):
        engine.step(nothing)
    engine.cancel(key)
    assert region_of(speaker) is not None

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.runner.Launched.read", faulty)
        assert finished(engine) == {}

    assert region_of(speaker) is None
    speaker.says_what_a_fresh_engine_says([10 * RATE])
    left_clean(engine)


def faulty(_launched: object) -> None:
    raise RuntimeError("the device found something wrong")


def test_a_prefix_that_is_no_token_is_refused(engine: NativeEngine) -> None:
    with pytest.raises(ValueError, match="no token"):
        engine.submit(("talk", 0), ChunkRequest(speech()[:RATE], prefix=(5, 999_999)))


@pytest.mark.parametrize("name", ["embedded", RANDOM])
def test_after_a_prefix_the_reference_says_the_same(name: str) -> None:
    model = embedded_model() if name == "embedded" else tiny_model(name)
    engine = shared(name)
    speaker = Speaker(engine, audio_for(name, 2))
    for samples in (4 * RATE, 9 * RATE, 13 * RATE):
        prefix = speaker.said[:-3] if name == "embedded" else speaker.said[:20]
        answer = speaker.step(samples, prefix=prefix, draft=())

        expected = said_after(model, ChunkRequest(speaker.audio[:samples]), prefix)
        assert answer.token_ids == expected
        assert answer.output_tokens == len(expected)
        assert answer == fresh(engine, speaker.audio[:samples], prefix=prefix)
    left_clean(engine)


def said_after(model: TinyModel, chunk: ChunkRequest, prefix: tuple[int, ...]) -> tuple[int, ...]:
    from transformers import GenerationConfig

    thinker = model.official.thinker
    _, embedded, _ = reference_prompt(model, chunk)
    said = thinker.get_input_embeddings()(torch.tensor([prefix], dtype=torch.long))
    begun = torch.cat((embedded, said), dim=1)
    generated = thinker.generate(
        inputs_embeds=begun,
        attention_mask=torch.ones(begun.shape[:2], dtype=torch.long),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=token_limit(len(chunk.samples)) - len(prefix),
            eos_token_id=list(END_TOKENS),
            pad_token_id=END_TOKENS[1],
        ),
    )[0].tolist()
    return (*prefix, *(token for token in generated if token not in END_TOKENS))


def test_behind_a_prefix_a_draft_is_verified(engine: NativeEngine) -> None:
    expected = fresh(engine, speech()[: 9 * RATE]).token_ids
    speaker = Speaker(engine, speech())

    answer = speaker.step(9 * RATE, prefix=expected[:5], draft=(*expected[5:8], 300, *expected[8:]))

    assert answer.token_ids == expected


@pytest.mark.parametrize("draft", [(), (300, 301, 302, 303, 304, 305, 306)])
def test_a_step_writes_no_more_new_tokens_than_it_may(
    engine: NativeEngine, draft: tuple[int, ...]
) -> None:
    expected = fresh(engine, speech()[: 9 * RATE]).token_ids

    answer = fresh(
        engine, speech()[: 9 * RATE], prefix=expected[:4], draft=draft, most_new_tokens=3
    )

    assert answer.token_ids == expected[:7]
    assert answer.is_cut_off


# --- work is saved ------------------------------------------------------------------------------


@pytest.fixture
def counted(engine: NativeEngine, monkeypatch: pytest.MonkeyPatch) -> Iterator[CountingRunner]:
    """On a machine so fast that nothing is cut in slices."""
    monkeypatch.setattr(engine._scheduler, "_live_step", 100.0)
    monkeypatch.setattr(engine._scheduler, "_file_step", 100.0)
    runner = CountingRunner(engine)
    yield runner
    engine._model.runner = runner._runner


def test_a_stable_text_takes_one_pass_and_its_new_tokens(
    engine: NativeEngine, counted: CountingRunner
) -> None:
    speaker = Speaker(engine, speech())
    before = speaker.step(28 * RATE)
    counted.taken()

    answer = speaker.step(30 * RATE)

    work = counted.taken()
    written = len(answer.token_ids) - len(before.token_ids)
    assert answer.token_ids[: len(before.token_ids)] == before.token_ids
    assert (work.windows, work.passes) == (1, 1)
    assert work.decoded <= written + 1
    assert work.tokens <= 13 * 6 + 13 + len(before.token_ids)  # the fourth window, and the text


def test_a_final_on_the_audio_of_the_last_partial_takes_one_pass(
    engine: NativeEngine, counted: CountingRunner
) -> None:
    speaker = Speaker(engine, speech())
    before = speaker.step(12 * RATE)
    counted.taken()

    assert speaker.step(12 * RATE, priority=Priority.LIVE_FINAL) == before

    work = counted.taken()
    assert (work.windows, work.passes, work.decoded) == (0, 1, 0)
    assert work.tokens <= 13 + len(before.token_ids)


def test_a_step_costs_no_more_late_than_early_but_for_its_text(
    engine: NativeEngine, counted: CountingRunner
) -> None:
    speaker = Speaker(engine, speech())
    window = 104
    moves = rises = 0
    for seconds in range(2, 32):
        draft, region, floor = len(speaker.said), region_of(speaker), floor_of(speaker)
        answer = speaker.step(seconds * RATE)
        work = counted.taken()
        rises += floor_of(speaker) != floor
        moves += region_of(speaker) != region  # to a larger one, with all of its prompt
        if floor_of(speaker) == floor:
            assert work.windows <= 2
            most = 2 * window + 10 if region_of(speaker) == region else answer.prompt_tokens
            assert work.tokens <= most + draft + 32
    assert moves <= 5
    assert rises <= 8


def region_of(speaker: Speaker) -> Region | None:
    return speaker.engine._scheduler._parked.region_of(speaker.name)


def floor_of(speaker: Speaker) -> float | None:
    utterance = speaker.engine._utterances.get(speaker.name)
    return utterance._mel.floor if utterance else None


def test_one_wrong_token_costs_a_few_passes_and_not_the_rest_of_the_text(
    engine: NativeEngine, counted: CountingRunner
) -> None:
    audio = speech()[: 30 * RATE]
    expected = fresh(engine, audio)
    assert len(expected.token_ids) > 35
    one = expected.token_ids[6]
    for change, passes in (((300,), 3), ((300, one), 3), ((), 5)):  # other, one too many, missing
        draft = (*expected.token_ids[:6], *change, *expected.token_ids[7:])
        counted.taken()

        answer = fresh(engine, audio, draft=draft)

        work = counted.taken()
        assert answer == expected
        assert (work.passes <= passes, work.decoded) == (True, 0)


def test_a_louder_bin_has_only_the_windows_below_the_new_floor_encoded_again(
    engine: NativeEngine, counted: CountingRunner
) -> None:
    """White noise lies above any floor that follows, a tone does not."""
    noise = np.random.default_rng(3).normal(size=WINDOW).astype(np.float32)
    times = np.arange(WINDOW) / RATE
    tone = (0.01 * np.sin(2 * np.pi * 440 * times)).astype(np.float32)
    audio = np.concatenate((noise * np.float32(0.1), tone, noise * np.float32(0.3)))
    speaker = Speaker(engine, audio)
    speaker.says_what_a_fresh_engine_says([2 * WINDOW + 400])
    counted.taken()

    speaker.step(2 * WINDOW + 2 * RATE)

    assert counted.taken().windows == 2  # the tone's, and the newest
    speaker.says_what_a_fresh_engine_says([3 * WINDOW])
