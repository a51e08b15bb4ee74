"""How an engine process starts."""

import sys

import pytest

from worker.engine.interface import EngineFailure
from worker.process import load_speech_model


def test_speech_detection_is_loaded_before_the_first_recording() -> None:
    assert repr(load_speech_model()) == "<SpeechModel loaded>"


@pytest.mark.parametrize("missing", ["onnxruntime", "silero_vad"])
def test_a_missing_package_of_speech_detection_is_named_to_the_operator(
    missing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)

    with pytest.raises(EngineFailure, match=f"{missing} is missing. Install the extra") as caught:
        load_speech_model()

    assert caught.value.code == "backend_missing"
