import json
import subprocess
import sys
from typing import Any

import pytest

UNUSED = ["accelerate", "gradio", "librosa", "nagisa", "pandas", "scipy", "sklearn", "soundfile"]


def in_a_fresh_process(script: str) -> Any:
    """What the script puts into `found`: imports can be judged only where nothing is imported."""
    full = f"import json, sys\n{script}\nsys.stdout.write(json.dumps(found))"
    finished = subprocess.run([sys.executable, "-c", full], capture_output=True, check=True)
    return json.loads(finished.stdout)


def test_the_model_is_imported_without_what_it_does_not_need() -> None:
    found = in_a_fresh_process(
        "from worker.engine.imports import import_modeling\n"
        "name = import_modeling().Qwen3ASRForConditionalGeneration.__name__\n"
        "found = [name, sorted(name for name in sys.modules if '.' not in name)]"
    )

    assert found[0] == "Qwen3ASRForConditionalGeneration"
    assert not set(UNUSED) & set(found[1])


def test_what_was_hidden_can_be_imported_afterwards() -> None:
    found = in_a_fresh_process(
        "from worker.engine.imports import import_modeling\n"
        "import_modeling()\n"
        "import scipy, qwen_asr, qwen_asr.core.transformers_backend as backend\n"
        "found = [scipy.__name__, backend.Qwen3ASRProcessor.__name__,"
        " qwen_asr.Qwen3ASRModel.__name__]"
    )

    assert found == ["scipy", "Qwen3ASRProcessor", "Qwen3ASRModel"]


def test_a_missing_package_is_named_with_the_way_to_install_it() -> None:
    found = in_a_fresh_process(
        "sys.modules['qwen_asr'] = None\n"
        "from worker.engine.imports import import_modeling\n"
        "from worker.engine.interface import EngineFailure\n"
        "try:\n"
        "    import_modeling()\n"
        "except EngineFailure as failure:\n"
        "    found = [failure.code, failure.message]"
    )

    assert found[0] == "backend_missing"
    assert "qwen_asr" in found[1]
    assert "qwen3-asr-server[worker,official]" in found[1]


def test_the_interface_and_the_engine_are_there_before_torch_is() -> None:
    found = in_a_fresh_process(
        "from pathlib import Path\n"
        "from worker.engine.creation import create_engine\n"
        "from worker.engine.interface import EngineSettings\n"
        "create_engine(EngineSettings('embedded', Path('unused'), engine='official'))\n"
        "found = [name for name in ('torch', 'numpy', 'transformers', 'huggingface_hub')"
        " if name in sys.modules]"
    )

    assert found == []


# Without torch, loading ends where torch would be imported.
LOAD_WITHOUT_TORCH = """
import os
from pathlib import Path
from worker.engine.creation import create_engine
from worker.engine.interface import EngineFailure, EngineSettings
sys.modules["torch"] = None
engine = create_engine(EngineSettings("embedded", Path("unused"), engine="official"))
try:
    engine.load(lambda _progress: None)
except EngineFailure as failure:
    found = [failure.code, failure.message, os.environ["OMP_WAIT_POLICY"]]
"""


def test_missing_torch_is_named_with_the_way_to_install_it() -> None:
    code, message, _policy = in_a_fresh_process(LOAD_WITHOUT_TORCH)

    assert code == "backend_missing"
    assert "package torch is missing" in message


@pytest.mark.parametrize(("set_before", "policy"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_idle_threads_sleep_instead_of_spinning_unless_the_operator_says_so(
    monkeypatch: pytest.MonkeyPatch, set_before: str | None, policy: str
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if set_before:
        monkeypatch.setenv("OMP_WAIT_POLICY", set_before)

    assert in_a_fresh_process(LOAD_WITHOUT_TORCH)[2] == policy
