from pathlib import Path

import pytest

from worker.launch import Launch, engine_environment, parse_launch
from worker.settings import WorkerSettings


def test_an_engine_process_reads_the_launch_its_supervisor_wrote() -> None:
    launch = Launch(epoch=3, status_descriptor=4, supervisor_pid=1234)

    assert parse_launch(launch.arguments()) == launch


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--epoch", "1"], ["1", "2", "3"]])
def test_a_person_who_starts_an_engine_by_hand_is_told_what_to_run(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match="run qwen3-asr worker"):
        parse_launch(arguments)


def test_caches_and_compiled_code_are_kept_under_the_data_folder() -> None:
    environment = engine_environment(WorkerSettings(data_dir=Path("/data")), {"PATH": "/bin"})

    assert environment["PATH"] == "/bin"
    assert environment["HF_HOME"] == "/data/cache/huggingface"
    assert environment["TORCHINDUCTOR_CACHE_DIR"] == "/data/cache/inductor"
    assert environment["TRITON_CACHE_DIR"] == "/data/cache/triton"
    assert environment["CUDA_CACHE_PATH"] == "/data/cache/cuda"
    assert environment["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:True"
    assert environment["PYTHONUNBUFFERED"] == "1"


def test_what_the_operator_set_is_kept() -> None:
    chosen = {"HF_HOME": "/models", "PYTORCH_CUDA_ALLOC_CONF": "max_split_size_mb:64"}

    environment = engine_environment(WorkerSettings(data_dir=Path("/data")), chosen)

    assert environment.items() >= chosen.items()


def test_thread_limits_reach_the_engine() -> None:
    settings = WorkerSettings(omp_num_threads=3, mkl_num_threads=5)

    environment = engine_environment(settings, {})

    assert (environment["OMP_NUM_THREADS"], environment["MKL_NUM_THREADS"]) == ("3", "5")


def test_keys_do_not_reach_the_engine() -> None:
    secrets = {"API_KEYS": "k", "API_KEYS_FILE": "/k", "OPENAI_API_KEY": "sk"}

    environment = engine_environment(WorkerSettings(), secrets)

    assert not environment.keys() & secrets.keys()
