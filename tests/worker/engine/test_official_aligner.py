"""The official package's forced aligner behind our interface, with tiny checkpoints."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.worker.engine.tiny_aligner import supported, write_aligner, write_ascending_aligner
from worker.engine.alignment_units import UnitFinder
from worker.engine.interface import (
    SAMPLE_RATE,
    Cancelled,
    EngineFailure,
    EngineSettings,
    LoadProgress,
)
from worker.engine.official_aligner import MAX_SECONDS, OfficialAligner

TEXTS = [
    ("English", "“Don't” go to the well-known café for 3.50 or 漢字!"),
    ("Chinese", "我在 iPhone 15 上看电影，好吗？"),
    ("Cantonese", "佢話：「係呀」。"),
    ("German", "Fünf Äpfel für 2,50 € – das ist viel."),
    ("Japanese", "今日は、東京でＡＢＣを食べた。2024年ｶﾞｷﾞ「そう」だ"),
    ("Korean", "안녕하세요, 저는 학교에 갑니다. 漢字를 3시에 iPhone을"),
]


def settings(folder: Path | str) -> EngineSettings:
    return EngineSettings(
        "embedded", Path("unused"), device="cpu", threads=1, forced_aligner_id=str(folder)
    )


def loaded(folder: Path) -> OfficialAligner:
    aligner = OfficialAligner(settings(folder))
    aligner.load(lambda _progress: None)
    return aligner


@pytest.fixture(scope="module")
def random_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_aligner(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="module")
def random_aligner(random_folder: Path) -> OfficialAligner:
    return loaded(random_folder)


@pytest.fixture(scope="module")
def ascending(tmp_path_factory: pytest.TempPathFactory) -> OfficialAligner:
    return loaded(write_ascending_aligner(tmp_path_factory.mktemp("ascending")))


def noise(seconds: float) -> np.ndarray:
    samples = np.random.default_rng(5).normal(scale=0.1, size=int(seconds * SAMPLE_RATE))
    return samples.astype(np.float32)


def nothing() -> None:
    """Nobody has mail."""


@pytest.mark.parametrize(("language", "text"), TEXTS)
def test_units_are_those_of_the_package(language: str, text: str) -> None:
    from qwen_asr.inference.qwen3_forced_aligner import Qwen3ForceAlignProcessor

    expected, _ = Qwen3ForceAlignProcessor().encode_timestamp(text, language)

    assert UnitFinder().units_of(text, language) == expected


@pytest.mark.parametrize(("language", "text"), TEXTS)
def test_times_are_those_the_package_finds_before_its_own_repair(
    random_folder: Path, random_aligner: OfficialAligner, language: str, text: str
) -> None:
    from qwen_asr import Qwen3ForcedAligner

    package = Qwen3ForcedAligner.from_pretrained(str(random_folder))
    package.aligner_processor.fix_timestamp = lambda stamps: stamps.tolist()
    samples = noise(5)

    (found,) = package.align((samples, SAMPLE_RATE), text, language)

    assert [
        (unit.text, unit.start, unit.end)
        for unit in random_aligner.align(samples, text, language, nothing)
    ] == [
        (item.text, round(item.start_time * SAMPLE_RATE), round(item.end_time * SAMPLE_RATE))
        for item in found
    ]


def test_a_long_chunk_is_aligned_over_all_its_windows(ascending: OfficialAligner) -> None:
    text = " ".join(["one two three four five six seven"] * 4)

    units = ascending.align(noise(20), text, "English", nothing)

    assert [unit.text for unit in units] == text.split()
    stamps = [stamp for unit in units for stamp in (unit.start, unit.end)]
    assert all(first <= second for first, second in pairwise(stamps))
    assert stamps[-1] > stamps[0]


def test_a_chunk_below_half_a_second_is_aligned(ascending: OfficialAligner) -> None:
    assert len(ascending.align(noise(0.1), "Yes, sir.", "English", nothing)) == 2


def test_a_chunk_longer_than_the_model_takes_has_no_times(ascending: OfficialAligner) -> None:
    samples = np.zeros(int(MAX_SECONDS * SAMPLE_RATE) + 1, dtype=np.float32)

    assert ascending.align(samples, "one", "English", nothing) == ()


def test_a_text_of_symbols_alone_has_no_times(ascending: OfficialAligner) -> None:
    assert ascending.align(noise(1), "?!", "English", nothing) == ()


@pytest.mark.parametrize("interruption", [Cancelled(), RuntimeError("a fault of the loop's")])
def test_an_alignment_can_be_abandoned_amid_its_layers(
    ascending: OfficialAligner, interruption: Exception
) -> None:
    def abandon() -> None:
        raise interruption

    with pytest.raises(type(interruption)):
        ascending.align(noise(1), "one", "English", abandon)

    assert len(ascending.align(noise(1), "one", "English", nothing)) == 1


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.OutOfMemoryError("nothing left"), "ran out of memory"),
        (RuntimeError("shapes differ"), "could not be aligned"),
    ],
)
def test_an_alignment_that_fails_has_no_times_and_the_next_one_has(
    ascending: OfficialAligner,
    error: Exception,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("worker.engine.aligner_model.encode_windows", fail)
        assert ascending.align(noise(1), "one", "English", nothing) == ()

    assert told in caplog.text
    assert len(ascending.align(noise(1), "one", "English", nothing)) == 1


@pytest.mark.parametrize("language", ["Japanese", "Korean"])
def test_without_a_languages_tokeniser_its_texts_have_no_times(
    language: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "nagisa", None)
    monkeypatch.setitem(sys.modules, "soynlp.tokenizer", None)

    assert UnitFinder().units_of("東京", language) == []
    assert f"no times for {language}" in caplog.text


def test_it_knows_the_eleven_languages_of_the_published_model(ascending: OfficialAligner) -> None:
    assert ascending.knows("English")
    assert ascending.knows("Cantonese")
    assert not ascending.knows("Arabic")
    assert not ascending.knows(None)


def test_languages_that_the_checkpoint_names_win(tmp_path: Path) -> None:
    aligner = loaded(supported(write_aligner(tmp_path), "Arabic"))

    assert aligner.knows("Arabic")
    assert not aligner.knows("English")


def test_loading_reports_its_stages_and_a_cpu_keeps_nothing_free(random_folder: Path) -> None:
    reports: list[LoadProgress] = []
    aligner = OfficialAligner(settings(random_folder))

    aligner.load(reports.append)

    stages = list(dict.fromkeys(report.stage for report in reports))
    assert stages == ["imports", "weights", "warm_up"]
    assert aligner.working_bytes == 0


def test_another_model_in_its_place_is_refused_by_its_setting() -> None:
    with pytest.raises(EngineFailure, match="Set FORCED_ALIGNER_ID") as caught:
        OfficialAligner(settings("embedded")).load(lambda _progress: None)

    assert caught.value.code == "unsupported_model"


def test_without_the_package_the_extra_is_named(
    random_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "worker.engine.aligner_model", raising=False)
    monkeypatch.setitem(sys.modules, "qwen_asr", None)
    for name in [name for name in sys.modules if name.startswith("qwen_asr.")]:
        monkeypatch.delitem(sys.modules, name)

    with pytest.raises(EngineFailure, match=r"qwen3-asr-server\[worker,official\]") as caught:
        OfficialAligner(settings(random_folder)).load(lambda _progress: None)

    assert caught.value.code == "backend_missing"
