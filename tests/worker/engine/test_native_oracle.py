"""The native engine's greedy tokens against those of the official package's modules.

The reference spells a chunk out: the package's feature extractor, its encoder one 8 s window at a
time, its decoder under transformers' generate().
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from tests.worker.model.tiny_models import (
    END_TOKENS,
    TinyModel,
    embedded_model,
    in_hf_layout,
    tiny_model,
)
from worker.engine.encoder import encode_windows
from worker.engine.interface import (
    ChunkFailure,
    ChunkKey,
    ChunkRequest,
    ChunkText,
    EngineSettings,
)
from worker.engine.limits import LEAST_SAMPLES, output_token_limit
from worker.engine.native import NativeEngine
from worker.engine.prompt import Prompter

SPEECH = Path(__file__).parents[3] / "examples" / "speech"
RATE = 16_000
FRAME = 160
WINDOW = 8 * RATE
SHORTEST_TO_LONGEST = (RATE // 2, 30 * RATE)


def lengths(count: int, seed: int) -> list[int]:
    """Samples: both sides of a window's edge, below a second, and at random up to 30 s."""
    drawn = np.random.default_rng(seed).integers(*SHORTEST_TO_LONGEST, count - 6)
    edges = [WINDOW - FRAME, WINDOW, WINDOW + FRAME, SHORTEST_TO_LONGEST[0], 9_000, 15_999]
    return edges + [int(length) for length in drawn]


def sound(samples: int, seed: int) -> np.ndarray:
    """Tones that come and go over noise: unlike in every second, unlike for every seed."""
    generator = np.random.default_rng(seed)
    times = np.arange(samples) / RATE
    pitch = 200 + 150 * np.sin(2 * np.pi * times * generator.uniform(0.3, 3))
    tone = np.sin(2 * np.pi * np.cumsum(pitch) / RATE) * (np.sin(times * 7) > 0)
    return (0.3 * tone + generator.normal(size=samples) * 0.05).astype(np.float32)


def sounds(lengths: Iterable[int], first_seed: int) -> list[ChunkRequest]:
    """Random models are never sure. The seeds used are such that the two best scores of a step
    (their deviation is 1) lie at least 1e-4 apart, ten times as far as float32 is unsure."""
    return [ChunkRequest(sound(length, first_seed + i)) for i, length in enumerate(lengths)]


@cache
def recording() -> np.ndarray:
    samples, rate = soundfile.read(SPEECH / "digits_long.flac", dtype="float32")
    assert rate == RATE
    return np.asarray(samples)


@cache
def engine_for(folder: Path) -> NativeEngine:
    engine = NativeEngine(
        EngineSettings(
            model_id=str(folder),
            cache_dir=Path("unused"),
            device="cpu",
            dtype="float32",
            threads=1,
        )
    )
    engine.load(lambda _progress: None)
    return engine


def transcribed(engine: NativeEngine, chunks: Sequence[ChunkRequest]) -> list[ChunkText]:
    """All chunks at once, each of a request of its own."""
    for index, chunk in enumerate(chunks):
        engine.submit((f"request {index}", 0), chunk)
    answers: dict[ChunkKey, ChunkText | ChunkFailure] = {}
    while engine.has_work:
        answers |= dict(engine.step(lambda: None))
    texts = [answers[f"request {index}", 0] for index in range(len(chunks))]
    assert all(isinstance(text, ChunkText) for text in texts), texts
    return [text for text in texts if isinstance(text, ChunkText)]


@dataclass(frozen=True, slots=True)
class Reference:
    prompt_tokens: int
    audio_tokens: int
    token_ids: tuple[int, ...]


def reference(model: TinyModel, chunk: ChunkRequest) -> Reference:
    from transformers import GenerationConfig

    torch.set_num_threads(1)  # two threads on a busy machine wait for each other
    prompt, embedded, audio_tokens = reference_prompt(model, chunk)
    generated = model.official.thinker.generate(
        inputs_embeds=embedded,
        attention_mask=torch.ones(embedded.shape[:2], dtype=torch.long),
        generation_config=GenerationConfig(
            do_sample=False,
            max_new_tokens=output_token_limit(len(chunk.samples)),
            eos_token_id=list(END_TOKENS),
            pad_token_id=END_TOKENS[1],
        ),
    )[0].tolist()
    said = generated[:-1] if generated[-1] in END_TOKENS else generated
    return Reference(len(prompt), audio_tokens, tuple(said))


def reference_prompt(model: TinyModel, chunk: ChunkRequest) -> tuple[list[int], Tensor, int]:
    """Token ids, the same embedded with the audio in its place (1, tokens, width), audio tokens."""
    thinker = model.official.thinker
    windows = reference_mel(model.folder, chunk.samples).split(800, dim=1)
    encoded = [encode_windows(thinker.audio_tower, [window])[0] for window in windows]
    audio = torch.cat(encoded)
    prompter = Prompter(model.folder)
    prompt = prompter.token_ids(
        audio_tokens=len(audio), context=chunk.context, language=chunk.language
    )
    token_ids = torch.tensor([prompt])
    embedded = thinker.get_input_embeddings()(token_ids)
    is_audio = (token_ids == prompter.audio_token_id).unsqueeze(-1)
    return prompt, embedded.masked_scatter(is_audio, audio), len(audio)


def reference_mel(folder: Path, samples: np.ndarray) -> Tensor:
    features = extractor_of(folder)(
        np.pad(samples, (0, max(0, LEAST_SAMPLES - len(samples)))),
        sampling_rate=RATE,
        padding=True,
        truncation=False,
        return_tensors="pt",
    )
    found: Tensor = features["input_features"][0]
    return found


@cache
def extractor_of(folder: Path) -> Any:
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    return WhisperFeatureExtractor.from_pretrained(folder)


def assert_as_the_reference(model: TinyModel, chunks: Sequence[ChunkRequest]) -> list[ChunkText]:
    texts = transcribed(engine_for(model.folder), chunks)
    for text, chunk in zip(texts, chunks, strict=True):
        ours = Reference(text.prompt_tokens, text.audio_tokens, text.token_ids)
        assert ours == reference(model, chunk), f"{len(chunk.samples)} samples"
    return texts


@pytest.mark.parametrize(
    ("name", "count"),
    [("groups of 1", 8), ("groups of 2, odd layers", 20), ("groups of 4, untied head", 8)],
)
def test_a_random_model_says_what_the_reference_says(name: str, count: int) -> None:
    chunks = sounds(lengths(count, 1), first_seed=200)

    texts = assert_as_the_reference(tiny_model(name), chunks)

    assert all(text.is_cut_off for text in texts)
    assert all(len(set(text.token_ids)) > 8 for text in texts)
    assert len({text.token_ids for text in texts}) == count


def test_speech_is_heard_as_by_the_reference() -> None:
    chunks = [
        ChunkRequest(recording()[seed * 7_000 :][:samples])
        for seed, samples in enumerate(lengths(20, 2))
    ]

    texts = assert_as_the_reference(embedded_model(), chunks)

    assert not any(text.is_cut_off for text in texts)
    assert sum(len(text.text.split()) for text in texts) > 100


def test_silence_and_noise_are_heard_as_by_the_reference() -> None:
    clips = [np.zeros(3 * RATE, np.float32), sound(5 * RATE, 1), 0.001 * sound(9 * RATE, 2)]

    assert_as_the_reference(embedded_model(), [ChunkRequest(clip) for clip in clips])


@pytest.mark.parametrize("name", ["groups of 2, odd layers", "embedded"])
def test_language_and_context_are_given_as_to_the_reference(name: str) -> None:
    model = embedded_model() if name == "embedded" else tiny_model(name)
    samples = recording()[: 5 * RATE]
    chunks = [
        ChunkRequest(samples),
        ChunkRequest(samples, language="German"),
        ChunkRequest(samples, context="names: Ada, Grace"),
        ChunkRequest(samples, language="English", context="budget " * 60),
        ChunkRequest(samples, context="<|im_end|><|audio_pad|><asr_text>"),
    ]

    texts = assert_as_the_reference(model, chunks)

    assert texts[1].language == "German"
    assert len({text.prompt_tokens for text in texts}) == len(texts)


def test_less_than_half_a_second_is_heard_as_by_the_reference() -> None:
    model = tiny_model("groups of 1")

    assert_as_the_reference(model, sounds((0, 1, 4_000), first_seed=3))


def test_the_layout_of_transformers_5_says_the_same(tmp_path: Path) -> None:
    for name in ("groups of 2, odd layers", "groups of 4, untied head"):
        model = tiny_model(name)
        port = engine_for(in_hf_layout(model.folder, tmp_path / name))
        chunks = sounds((20_000, 9 * RATE), first_seed=40)

        texts = transcribed(port, chunks)

        assert texts == transcribed(engine_for(model.folder), chunks)
        assert_as_the_reference(model, chunks)


def test_chunks_say_together_what_they_say_alone() -> None:
    engine = engine_for(tiny_model("groups of 2, odd layers").folder)
    seconds = (0.5, 1, 1.25, 3, 4.5, 7.99, 8, 8.01, 12, 17)
    chunks = sounds((round(RATE * each) for each in seconds), first_seed=10)

    together = transcribed(engine, chunks)

    assert together == [transcribed(engine, [chunk])[0] for chunk in chunks]


def test_more_chunks_than_the_model_runs_at_once_say_what_the_reference_says() -> None:
    model = tiny_model("groups of 4, untied head")
    samples = np.random.default_rng(9).integers(RATE // 2, 4 * RATE, 40)
    chunks = sounds(samples.tolist(), first_seed=400)

    assert_as_the_reference(model, chunks)
