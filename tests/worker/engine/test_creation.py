"""The engine that the settings name."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from tests.worker.engine.tiny_aligner import write_ascending_aligner
from worker.engine.batches import BatchEngine
from worker.engine.creation import create_engine
from worker.engine.interface import ChunkRequest, ChunkText, Engine, EngineFailure, EngineSettings
from worker.engine.native import NativeEngine

CLIP = Path(__file__).parents[3] / "examples" / "speech" / "digits_british.flac"
SETTINGS = EngineSettings("embedded", Path("unused"), device="cpu", threads=1)

LOADED = """
import sys
from pathlib import Path
from worker.engine.creation import create_engine
from worker.engine.interface import EngineSettings
create_engine(EngineSettings("embedded", Path("unused"), device="cpu")).load(lambda _progress: None)
print(sorted({"transformers", "qwen_asr", "nagisa", "soynlp"} & sys.modules.keys()))
"""


def loaded(settings: EngineSettings) -> Engine:
    engine = create_engine(settings)
    engine.load(lambda _progress: None)
    engine.warm_up()
    return engine


@pytest.mark.parametrize(("name", "kind"), [("native", NativeEngine), ("official", BatchEngine)])
def test_without_an_aligner_it_is_the_engine_itself(name: str, kind: type) -> None:
    assert type(create_engine(replace(SETTINGS, engine=name))) is kind


def test_an_unknown_engine_is_told_with_those_there_are() -> None:
    with pytest.raises(EngineFailure, match="use native or official"):
        create_engine(replace(SETTINGS, engine="steam"))


def test_the_native_engine_alone_needs_nothing_of_the_aligners() -> None:
    said = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, text=True, check=True, timeout=60
    )

    assert said.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["native", "official"])
def test_with_an_aligner_texts_come_with_their_times(name: str, tmp_path: Path) -> None:
    aligner = write_ascending_aligner(tmp_path)
    engine = loaded(replace(SETTINGS, engine=name, forced_aligner_id=str(aligner)))
    samples, _rate = soundfile.read(CLIP, dtype="float32")
    engine.submit(("a", 0), ChunkRequest(samples, wants_words=True))

    answers = []
    while engine.has_work:
        answers += engine.step(lambda: None)

    [(key, answer)] = answers
    assert key == ("a", 0)
    assert isinstance(answer, ChunkText)
    assert answer.alignment is not None
    assert [unit.text for unit in answer.alignment.units] == answer.text.split()


def test_memory_that_is_kept_free_for_others_is_not_planned() -> None:
    with pytest.raises(EngineFailure, match="The model needs") as caught:
        loaded(replace(SETTINGS, kept_free_bytes=2**60))

    assert caught.value.code == "out_of_memory"
