import importlib.machinery
import importlib.util

import pytest
import torch

from worker.engine import placement
from worker.engine.interface import EngineFailure

CPU = torch.device("cpu")
CUDA = torch.device("cuda", 0)
GIB = 1024**3


class Cuda:
    """What torch.cuda would say about a machine."""

    def __init__(self, patch: pytest.MonkeyPatch, devices: int, capability: int = 9) -> None:
        patch.setattr(torch.cuda, "is_available", lambda: devices > 0)
        patch.setattr(torch.cuda, "device_count", lambda: devices)
        patch.setattr(torch.cuda, "get_device_capability", lambda _device: (capability, 0))


def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, devices=1)

    assert placement.choose_device("auto").type == "cuda"


def test_auto_takes_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, devices=0)

    assert placement.choose_device("auto") == CPU


def test_the_cpu_can_be_asked_for_beside_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, devices=1)

    assert placement.choose_device("cpu") == CPU


@pytest.mark.parametrize("wanted", ["cuda", "cuda:0", "cuda:1", "mps", "gpu"])
def test_a_device_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    Cuda(monkeypatch, devices=0)

    with pytest.raises(EngineFailure) as caught:
        placement.choose_device(wanted)
    assert caught.value.code == "device_missing"


def test_a_device_beyond_the_last_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Cuda(monkeypatch, devices=2)

    assert placement.choose_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(EngineFailure):
        placement.choose_device("cuda:2")


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [(7, torch.float16), (8, torch.bfloat16), (9, torch.bfloat16)],
)
def test_a_gpu_without_native_bfloat16_computes_in_float16(
    monkeypatch: pytest.MonkeyPatch, capability: int, dtype: torch.dtype
) -> None:
    Cuda(monkeypatch, devices=1, capability=capability)

    assert placement.choose_dtype("auto", CUDA) == dtype


def test_a_cpu_computes_in_float32_unless_told_otherwise() -> None:
    assert placement.choose_dtype("auto", CPU) == torch.float32
    assert placement.choose_dtype("bfloat16", CPU) == torch.bfloat16


def test_an_unknown_number_type_is_refused() -> None:
    with pytest.raises(EngineFailure):
        placement.choose_dtype("int8", CPU)


def test_flash_attention_is_taken_where_installed_and_able(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = importlib.machinery.ModuleSpec("flash_attn", None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: spec)

    assert placement.choose_attention(CUDA, torch.bfloat16) == "flash_attention_2"
    assert placement.choose_attention(CUDA, torch.float32) == "sdpa"
    assert placement.choose_attention(CPU, torch.float32) == "sdpa"


def test_torchs_own_attention_is_taken_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)

    assert placement.choose_attention(CUDA, torch.bfloat16) == "sdpa"


@pytest.mark.parametrize(
    ("free_gib", "chunks"), [(0, 1), (1, 1), (4, 6), (16, 25), (100, placement.LARGEST_BATCH)]
)
def test_the_batch_grows_with_the_free_memory(free_gib: int, chunks: int) -> None:
    # 0.32 GB: the KV cache of a 60 s chunk in both Qwen3-ASR models (112 KiB a token).
    assert placement.chunks_that_fit(free_gib * GIB, 320 * 1024**2) == chunks


def test_torchs_own_reserve_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _device: (5 * GIB, 80 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _device: 3 * GIB)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _device: 1 * GIB)

    assert placement.free_bytes(CUDA) == 7 * GIB


def test_a_gpu_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def illegal_access(_device: torch.device) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", illegal_access)

    assert placement.is_lost(CUDA)


def test_a_gpu_that_answers_and_a_cpu_are_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "synchronize", lambda _device: None)

    assert not placement.is_lost(CUDA)
    assert not placement.is_lost(CPU)
