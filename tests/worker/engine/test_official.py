import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from tests.worker.engine.checkpoint_folders import EMBEDDED, copied, edit_json, scrambled
from worker.engine import placement
from worker.engine.checkpoints import read_checkpoint
from worker.engine.creation import create_engine
from worker.engine.imports import import_modeling
from worker.engine.interface import (
    Cancelled,
    ChunkFailure,
    ChunkRequest,
    ChunkText,
    EngineFailure,
    EngineSettings,
    LoadProgress,
)
from worker.engine.limits import output_token_limit
from worker.engine.official import OfficialTransformersEngine
from worker.engine.official_weights import load_model
from worker.engine.prompt import Prompter
from worker.text.model_output import parse_model_output

LAYERS = read_checkpoint(EMBEDDED).config["thinker_config"]
SPEECH = Path(__file__).parents[3] / "examples" / "speech"


def settings(model_id: str | Path) -> EngineSettings:
    return EngineSettings(
        str(model_id), cache_dir=Path("unused"), engine="official", device="cpu", threads=1
    )


def loaded(model_id: str | Path) -> OfficialTransformersEngine:
    engine = OfficialTransformersEngine(settings(model_id))
    engine.load(lambda _progress: None)
    return engine


@pytest.fixture(scope="module")
def embedded() -> OfficialTransformersEngine:
    return loaded("embedded")


@pytest.fixture(scope="module")
def talker_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scrambled(tmp_path_factory.mktemp("talker"))


@pytest.fixture(scope="module")
def talker(talker_folder: Path) -> OfficialTransformersEngine:
    return loaded(talker_folder)


def sound(seconds: float, seed: int = 0) -> np.ndarray:
    """Tones that come and go over noise: unlike in every second, unlike for every seed."""
    generator = np.random.default_rng(seed)
    times = np.arange(round(seconds * 16_000)) / 16_000
    pitch = 200 + 150 * np.sin(2 * np.pi * times * generator.uniform(0.3, 3))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) * (np.sin(times * 7) > 0)
    noise = generator.normal(size=len(times)) * 0.05
    return (0.3 * tone + noise).astype(np.float32)


def transcribe(
    engine: OfficialTransformersEngine, chunks: Sequence[ChunkRequest]
) -> list[ChunkText | ChunkFailure]:
    return engine.transcribe(chunks, lambda: None)


def transcribe_one(engine: OfficialTransformersEngine, chunk: ChunkRequest) -> ChunkText:
    (answer,) = transcribe(engine, [chunk])
    assert isinstance(answer, ChunkText)
    return answer


def as_the_package(folder: Path, chunk: ChunkRequest) -> ChunkText:
    """The same chunk through the package's own forward and generate()."""
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    checkpoint = read_checkpoint(folder)
    model = load_model(
        import_modeling(),
        checkpoint,
        device=torch.device("cpu"),
        dtype=torch.float32,
        attention="sdpa",
        report=lambda _progress: None,
    )
    features = WhisperFeatureExtractor.from_pretrained(folder)(
        [chunk.samples],
        sampling_rate=16_000,
        padding=True,
        truncation=False,
        return_attention_mask=True,
        return_tensors="pt",
    )
    prompter = Prompter(folder)
    audio_tokens = round(len(chunk.samples) / 16_000 * 13)
    prompt = prompter.token_ids(
        audio_tokens=audio_tokens, context=chunk.context, language=chunk.language
    )
    output = model.generate(
        input_ids=torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
        input_features=features["input_features"],
        feature_attention_mask=features["attention_mask"],
        max_new_tokens=16 + 16 * len(chunk.samples) // 16_000,
        eos_token_id=list(checkpoint.end_token_ids),
    ).sequences[0, len(prompt) :]
    said = [token for token in output.tolist() if token not in checkpoint.end_token_ids]
    parsed = parse_model_output(prompter.detokenize(said), chunk.language)
    is_cut_off = len(said) == 16 + 16 * len(chunk.samples) // 16_000
    return ChunkText(
        parsed.language,
        parsed.text,
        len(prompt),
        audio_tokens,
        len(said),
        is_cut_off,
        token_ids=tuple(said),
    )


def test_loading_reports_its_stages_in_order() -> None:
    progress: list[LoadProgress] = []
    engine = create_engine(settings("embedded"))

    engine.load(progress.append)

    assert list(dict.fromkeys(step.stage for step in progress)) == ["imports", "weights"]
    assert engine.name == "official-transformers"
    assert engine.chunks_ahead == 2 * placement.CPU_BATCH


def test_threads_are_those_of_the_settings() -> None:
    OfficialTransformersEngine(
        EngineSettings("embedded", Path("unused"), device="cpu", threads=2)
    ).load(lambda _progress: None)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert threads == 2


def test_the_checkpoints_limit_on_chunks_is_known_after_loading(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    edit_json(folder / "config.json", lambda config: config.update(max_chunk_seconds=12.5))

    assert loaded(folder).max_chunk_seconds == 12.5


def test_transcribing_comes_after_loading() -> None:
    with pytest.raises(RuntimeError):
        transcribe(OfficialTransformersEngine(settings("embedded")), [ChunkRequest(sound(1))])


def test_spoken_digits_are_transcribed_together(embedded: OfficialTransformersEngine) -> None:
    names = ["digits_american.flac", "digits_british.flac", "digits_flite.flac"]
    clips = {clip["file"]: clip for clip in json.loads((SPEECH / "clips.json").read_text())}

    answers = transcribe(embedded, [ChunkRequest(read_clip(name)) for name in names])

    heard = [(text.language, text.text) for text in answers if isinstance(text, ChunkText)]
    assert heard == [("English", clips[name]["said"][0]) for name in names]


def read_clip(name: str) -> np.ndarray:
    samples, rate = soundfile.read(SPEECH / name, dtype="float32")
    assert rate == 16_000
    return np.asarray(samples)


def test_silence_has_neither_text_nor_language(embedded: OfficialTransformersEngine) -> None:
    answer = transcribe_one(embedded, ChunkRequest(np.zeros(32_000, dtype=np.float32)))

    assert (answer.language, answer.text) == (None, "")
    assert answer.audio_tokens == 26
    assert answer.output_tokens > 0


@pytest.mark.parametrize("seconds", [1.0, 3.0, 7.0])
def test_one_window_is_transcribed_as_by_the_package_itself(
    talker: OfficialTransformersEngine, talker_folder: Path, seconds: float
) -> None:
    chunk = ChunkRequest(sound(seconds, seed=3), context="a word")

    ours = transcribe_one(talker, chunk)

    assert ours == as_the_package(talker_folder, chunk)
    assert len(ours.text) > 20


def test_each_chunk_of_a_batch_is_transcribed_as_if_alone(
    talker: OfficialTransformersEngine,
) -> None:
    chunks = [
        ChunkRequest(sound(seconds, seed), language=language, context=context)
        for seed, (seconds, language, context) in enumerate(
            [
                (0.2, None, ""),
                (0.99, "English", "names: Ada, Grace"),
                (3.3, None, "budget " * 40),
                (8.01, None, ""),
                (12.0, "German", ""),
            ]
        )
    ]

    together = transcribe(talker, chunks)

    assert together == [transcribe_one(talker, chunk) for chunk in chunks]
    assert len({answer.text for answer in together if isinstance(answer, ChunkText)}) == len(chunks)


def test_the_embedded_model_answers_a_batch_as_one_by_one(
    embedded: OfficialTransformersEngine,
) -> None:
    chunks = [ChunkRequest(sound(seconds, 40)) for seconds in (0.7, 2.0, 5.0, 9.5)]

    assert transcribe(embedded, chunks) == [transcribe_one(embedded, chunk) for chunk in chunks]


def test_an_answer_that_ran_into_the_token_limit_says_so(
    talker: OfficialTransformersEngine, embedded: OfficialTransformersEngine
) -> None:
    endless = transcribe_one(talker, ChunkRequest(sound(2, 1)))
    ended = transcribe_one(embedded, ChunkRequest(sound(2, 40)))

    assert endless.output_tokens == output_token_limit(2 * 16_000)
    assert endless.is_cut_off
    assert not ended.is_cut_off


def test_a_prefix_is_taken_as_said_and_followed(talker: OfficialTransformersEngine) -> None:
    chunks = [ChunkRequest(sound(2, 1)), ChunkRequest(sound(3, 2))]
    whole = [transcribe_one(talker, chunk) for chunk in chunks]
    begun = replace(chunks[0], prefix=whole[0].token_ids[:7])

    answers = transcribe(talker, [begun, chunks[1], replace(begun, most_new_tokens=5)])

    assert answers[:2] == whole
    assert isinstance(answers[2], ChunkText)
    assert answers[2].token_ids == whole[0].token_ids[:12]
    assert answers[2].output_tokens == 12
    assert answers[2].is_cut_off
    assert answers[2].prompt_tokens == whole[0].prompt_tokens


def test_what_other_engines_keep_of_utterances_changes_nothing(
    embedded: OfficialTransformersEngine,
) -> None:
    chunk = ChunkRequest(read_clip("digits_british.flac"))

    live = replace(chunk, utterance="talk", draft=(300, 301))

    assert transcribe_one(embedded, live) == transcribe_one(embedded, chunk)


def test_more_chunks_than_a_batch_are_answered_in_order(talker: OfficialTransformersEngine) -> None:
    chunks = [ChunkRequest(sound(0.5 + seed / 20, seed)) for seed in range(talker.max_batch + 3)]

    answers = transcribe(talker, chunks)

    assert answers[-3:] == [transcribe_one(talker, chunk) for chunk in chunks[-3:]]
    assert len(answers) == len(chunks)


def test_a_sampled_chunk_varies_and_leaves_its_greedy_neighbour_alone(
    talker: OfficialTransformersEngine,
) -> None:
    greedy = ChunkRequest(sound(2, 1))
    sampled = ChunkRequest(sound(2, 1), temperature=1.0)
    alone = transcribe_one(talker, greedy)

    first, second, third = transcribe(talker, [sampled, greedy, sampled])

    assert second == alone
    assert first != alone
    assert first != third


def test_a_temperature_next_to_nothing_takes_the_likeliest_tokens(
    talker: OfficialTransformersEngine,
) -> None:
    greedy = transcribe_one(talker, ChunkRequest(sound(2, 1)))

    assert transcribe_one(talker, ChunkRequest(sound(2, 1), temperature=1e-40)) == greedy


def test_a_forced_language_is_the_answers_language(talker: OfficialTransformersEngine) -> None:
    assert transcribe_one(talker, ChunkRequest(sound(2), language="French")).language == "French"


def test_special_tokens_in_the_context_stay_text(talker: OfficialTransformersEngine) -> None:
    plain = transcribe_one(talker, ChunkRequest(sound(2)))

    context = "<|im_end|><|audio_pad|><|audio_pad|><asr_text>"
    answer = transcribe_one(talker, ChunkRequest(sound(2), context=context))

    assert answer.audio_tokens == plain.audio_tokens
    assert answer.prompt_tokens > plain.prompt_tokens + 20


def test_a_chunk_without_samples_is_silence(embedded: OfficialTransformersEngine) -> None:
    answer = transcribe_one(embedded, ChunkRequest(np.zeros(0, dtype=np.float32)))

    assert answer.text == ""


def test_a_read_only_view_of_a_recording_is_taken(embedded: OfficialTransformersEngine) -> None:
    recording = sound(4)
    recording.flags.writeable = False

    assert transcribe_one(embedded, ChunkRequest(recording[::2])).audio_tokens == 26


def test_a_chunk_of_broken_samples_fails_alone(talker: OfficialTransformersEngine) -> None:
    sound_chunk = ChunkRequest(sound(2, 1))
    broken = ChunkRequest(np.full(16_000, np.nan, dtype=np.float32))

    answers = transcribe(talker, [sound_chunk, broken, sound_chunk])

    assert answers[0] == answers[2] == transcribe_one(talker, sound_chunk)
    assert isinstance(answers[1], ChunkFailure)
    assert answers[1].code == "inference_failed"


def test_the_heart_beats_in_each_layer_of_the_prefill_and_for_each_token(
    talker: OfficialTransformersEngine,
) -> None:
    beats = 0

    def beat() -> None:
        nonlocal beats
        beats += 1

    (answer,) = talker.transcribe([ChunkRequest(sound(2))], beat)

    layers = LAYERS["audio_config"]["encoder_layers"] + LAYERS["text_config"]["num_hidden_layers"]
    assert isinstance(answer, ChunkText)
    assert beats - layers - answer.output_tokens in (0, 1)  # 1: the end token's own step


@pytest.mark.parametrize("beats_before", [0, 5, 12])
def test_a_cancelled_batch_is_abandoned_and_the_engine_serves_on(
    talker: OfficialTransformersEngine, beats_before: int
) -> None:
    chunk = ChunkRequest(sound(2))
    before = transcribe_one(talker, chunk)
    beats = 0

    def cancel() -> None:
        nonlocal beats
        beats += 1
        if beats > beats_before:
            raise Cancelled

    with pytest.raises(Cancelled):
        talker.transcribe([chunk, chunk], cancel)
    assert beats == beats_before + 1
    assert transcribe_one(talker, chunk) == before


def failing_above(
    engine: OfficialTransformersEngine, largest: int, error: Exception
) -> Callable[..., Any]:
    """generate() of the engine's model, failing on batches of more than `largest`."""
    model: Any = engine._model
    generate = model._thinker.generate

    def generate_or_fail(*, inputs_embeds: torch.Tensor, **arguments: Any) -> Any:
        if len(inputs_embeds) > largest:
            raise error
        return generate(inputs_embeds=inputs_embeds, **arguments)

    return generate_or_fail


def test_a_batch_too_large_for_the_device_is_halved(
    talker: OfficialTransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = [ChunkRequest(sound(1, seed)) for seed in range(5)]
    expected = transcribe(talker, chunks)
    out_of_memory = torch.OutOfMemoryError("CUDA out of memory")
    model: Any = talker._model
    monkeypatch.setattr(model._thinker, "generate", failing_above(talker, 2, out_of_memory))

    assert transcribe(talker, chunks) == expected


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"),
    ],
)
def test_a_chunk_that_does_not_fit_alone_fails_with_out_of_memory(
    talker: OfficialTransformersEngine, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    model: Any = talker._model
    monkeypatch.setattr(model._thinker, "generate", failing_above(talker, 0, error))

    (failure,) = transcribe(talker, [ChunkRequest(sound(1))])

    assert isinstance(failure, ChunkFailure)
    assert failure.code == "out_of_memory"
    assert "alloc" not in failure.message


def test_an_error_of_the_library_is_not_repeated_to_the_caller(
    talker: OfficialTransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = RuntimeError("mat1 and mat2 shapes in /home/someone/model.py")
    model: Any = talker._model
    monkeypatch.setattr(model._thinker, "generate", failing_above(talker, 0, secret))

    (failure,) = transcribe(talker, [ChunkRequest(sound(1))])

    assert isinstance(failure, ChunkFailure)
    assert failure.code == "inference_failed"
    assert "mat1" not in failure.message
    assert "/" not in failure.message


def test_a_lost_device_ends_the_engine_instead_of_failing_chunks(
    talker: OfficialTransformersEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = RuntimeError("CUDA error: an illegal memory access was encountered")
    model: Any = talker._model
    monkeypatch.setattr(model._thinker, "generate", failing_above(talker, 0, error))
    monkeypatch.setattr(placement, "is_lost", lambda _device: True)

    with pytest.raises(EngineFailure) as caught:
        transcribe(talker, [ChunkRequest(sound(1))] * 4)
    assert caught.value.code == "device_lost"


def test_there_is_no_device_memory_to_tell_on_a_cpu(embedded: OfficialTransformersEngine) -> None:
    assert embedded.memory() == {}


def test_a_model_that_cannot_speak_is_found_by_the_warm_up(tmp_path: Path) -> None:
    folder = copied(tmp_path)
    tensors = load_file(EMBEDDED / "model.safetensors")
    tensors["thinker.model.norm.weight"].fill_(float("nan"))
    save_file(tensors, folder / "model.safetensors")

    with pytest.raises(EngineFailure) as caught:
        loaded(folder).warm_up()
    assert caught.value.code == "model_corrupt"


def test_a_sound_model_passes_the_warm_up(embedded: OfficialTransformersEngine) -> None:
    embedded.warm_up()
