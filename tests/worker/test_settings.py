import os
from pathlib import Path

import pytest

from protocol.environment import BadSettings, default_data_dir
from worker.settings import WorkerSettings, quota_cpus, read_worker_settings


def test_every_default_works() -> None:
    settings = read_worker_settings({})

    assert settings == WorkerSettings()
    assert settings.worker_id == os.uname().nodename
    assert settings.data_dir == default_data_dir()
    assert 1 <= settings.omp_num_threads <= 16


def test_values_come_from_the_environment() -> None:
    settings = read_worker_settings(
        {
            "MODEL_ID": "embedded",
            "DATA_DIR": "/data",
            "WORKER_ID": "gpu-1",
            "WORKER_LINK": "tcp://gateway:7000",
            "WORKER_LINK_KEYS": "/keys",
            "ENGINE": "Native",
            "VRAM_BUDGET": "6GB",
            "OFFICIAL_BACKEND": "vLLM",
            "DEVICE": "cuda",
            "DTYPE": "bfloat16",
            "TORCH_COMPILE": "yes",
            "CHUNK_SECONDS": "15",
            "MAX_CHUNK_SECONDS": "20",
            "MAX_AUDIO_SECONDS": "3600",
            "DECODERS": "4",
            "OMP_NUM_THREADS": "2",
            "MKL_NUM_THREADS": "3",
            "ENGINE_LOAD_STALL_TIMEOUT": "60",
            "ENGINE_STEP_TIMEOUT": "30",
            "LOG_LEVEL": "DEBUG",
        }
    )

    assert settings == WorkerSettings(
        model_id="embedded",
        data_dir=Path("/data"),
        worker_id="gpu-1",
        worker_link="tcp://gateway:7000",
        worker_link_keys=Path("/keys"),
        engine="native",
        vram_budget=6_000_000_000,
        official_backend="vllm",
        device="cuda",
        dtype="bfloat16",
        torch_compile=True,
        chunk_seconds=15.0,
        max_chunk_seconds=20.0,
        max_audio_seconds=3600.0,
        decoders=4,
        omp_num_threads=2,
        mkl_num_threads=3,
        engine_load_stall_timeout=60.0,
        engine_step_timeout=30.0,
        log_level="debug",
    )


def test_all_bad_values_are_reported_together() -> None:
    with pytest.raises(BadSettings) as caught:
        read_worker_settings(
            {
                "WORKER_LINK": "http://gateway",
                "ENGINE": "rocket",
                "VRAM_BUDGET": "all",
                "DEVICE": "tpu",
                "CHUNK_SECONDS": "0",
                "DECODERS": "many",
                "WORKER_ID": "x" * 65,
            }
        )

    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [
        "WORKER_ID",
        "WORKER_LINK",
        "ENGINE",
        "VRAM_BUDGET",
        "DEVICE",
        "CHUNK_SECONDS",
        "DECODERS",
    ]


def test_matrix_threads_follow_the_thread_limit() -> None:
    assert read_worker_settings({"OMP_NUM_THREADS": "3"}).mkl_num_threads == 3


def test_a_hard_maximum_below_the_target_is_refused() -> None:
    with pytest.raises(BadSettings, match="MAX_CHUNK_SECONDS"):
        read_worker_settings({"CHUNK_SECONDS": "40", "MAX_CHUNK_SECONDS": "30"})


def test_the_data_folder_follows_the_xdg_specification(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/home/me/data")
    assert default_data_dir() == Path("/home/me/data/qwen3-asr")

    monkeypatch.setenv("XDG_DATA_HOME", "relative/is/ignored")
    assert default_data_dir() == Path.home() / ".local/share/qwen3-asr"


@pytest.mark.parametrize(
    ("cpu_max", "cpus"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 1), ("50000 100000", 1)],
)
def test_a_containers_cpu_quota_limits_the_threads(cpu_max: str, cpus: int | None) -> None:
    assert quota_cpus(cpu_max) == cpus


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("6GB", 6 * 10**9),
        ("6 gb", 6 * 10**9),
        ("6GiB", 6 * 2**30),
        ("6G", 6 * 2**30),
        ("1.5GB", 1_500_000_000),
        ("0.5GiB", 2**29),
        ("500MB", 500_000_000),
        ("6000000000", 6_000_000_000),
        ("6000000000B", 6_000_000_000),
    ],
)
def test_a_memory_budget_may_be_a_size(text: str, budget: int) -> None:
    parsed = read_worker_settings({"VRAM_BUDGET": text}).vram_budget

    assert parsed == budget
    assert isinstance(parsed, int)


@pytest.mark.parametrize(
    ("text", "share"), [("0.8", 0.8), (".8", 0.8), ("80%", 0.8), ("12.5 %", 0.125), ("100%", 1.0)]
)
def test_a_memory_budget_may_be_a_share(text: str, share: float) -> None:
    parsed = read_worker_settings({"VRAM_BUDGET": text}).vram_budget

    assert parsed == share
    assert isinstance(parsed, float)


@pytest.mark.parametrize(
    "text",
    ["0", "0%", "101%", "6", "1.5", "-1GB", "6 GB each", "6EB", "1e9", "nan", "GB", "%", "0.8%GB"],
)
def test_a_memory_budget_that_means_nothing_is_refused(text: str) -> None:
    with pytest.raises(BadSettings, match="VRAM_BUDGET: must be a size such as 6GB, or a share"):
        read_worker_settings({"VRAM_BUDGET": text})


def test_without_a_memory_budget_the_engine_has_its_own() -> None:
    assert read_worker_settings({"VRAM_BUDGET": " "}).vram_budget is None
