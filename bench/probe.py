"""What a device offers to the native engine and to faster ones to come; ends in a second or two.

    python -m bench.probe [--json out]

One line a question: yes, no, or the answer. Nothing here fails the script: a no is an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional

from bench.models import make_parameters, make_runner, triton_operations
from bench.options import Setting, parser, setting
from bench.report import Table
from worker.engine import placement
from worker.engine.cuda_graphs import CudaCapture
from worker.engine.rows import DecodeRow

_BACKENDS = ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION", "MATH")


def main() -> None:
    chosen = setting("probe", parser(__doc__, rounds=1).parse_args())
    table = Table("what there is", ("", "answer"))
    for name, question in questions(chosen).items():
        table.add(name, answer_of(question))
    chosen.report.show(table)
    chosen.report.close()


def answer_of(question: Callable[[], str]) -> str:
    """What it answers, or why it cannot."""
    try:
        return question()
    except Exception as error:  # whatever a library raises for what it does not have
        first = (str(error).splitlines() or [""])[0]
        return f"no: {type(error).__name__}: {first[:120]}"


def questions(chosen: Setting) -> dict[str, Callable[[], str]]:
    """By name, in the order they are asked."""
    device = chosen.device
    asked: dict[str, Callable[[], str]] = {
        "memory that is free": lambda: f"{placement.free_memory(device) / 1e9:.1f} GB",
        "number type of the engine": lambda: str(chosen.dtype).removeprefix("torch."),
        "matrix product in bfloat16": partial(bfloat16_product, device),
        "Triton kernel": partial(triton_kernel, device),
        "graph capture": partial(graph_capture, device),
        "native decode step, tiny model": partial(decode_step, device),
        "torch.compile": partial(compiled, device),
        "_flash_attention_forward": flash_schema,
        "flash attention with seqused_k": lambda: _yes("seqused_k" in flash_schema()),
        "varlen_attn": varlen,
    }
    for name in _BACKENDS:
        asked[f"SDPA with shared KV heads: {name.lower()}"] = partial(sdpa, chosen, name)
    return asked


def bfloat16_product(device: torch.device) -> str:
    ones = torch.ones(64, 64, dtype=torch.bfloat16, device=device)
    return _yes(bool((ones @ ones == 64).all()))


def triton_kernel(device: torch.device) -> str:
    if device.type != "cuda":
        return "no: it needs a GPU (the tests run the kernels in Triton's interpreter)"
    operations = triton_operations()
    values = torch.randn(4, 512, device=device, dtype=torch.bfloat16)
    gate, up = values.chunk(2, dim=1)
    near = torch.allclose(operations.silu_mul(values), functional.silu(gate) * up, atol=0.05)
    return _yes(near)


def graph_capture(device: torch.device) -> str:
    if device.type != "cuda":
        return "no: it needs a GPU"
    source = torch.ones(8, device=device)
    replay, (output,) = CudaCapture()(lambda tensor: (tensor * 2,), (source,))
    source.fill_(3)
    replay()
    return _yes(bool((output == 6).all()))


def decode_step(device: torch.device) -> str:
    """The runner as the engine has it, over random weights."""
    dtype = placement.choose_dtype("auto", device)
    parameters = make_parameters("tiny", device, dtype)
    on_gpu = device.type == "cuda"
    operations = triton_operations() if on_gpu else None
    runner = make_runner(parameters, operations, kv_rows=64, slots=1, with_graphs=on_gpu)
    with torch.inference_mode():
        picks, _ = runner.decode([DecodeRow(0, 0, 5)]).read()
    return _yes(picks[0] >= 0)


def compiled(device: torch.device) -> str:
    double = torch.compile(lambda tensor: tensor.sin() * 2)
    values = torch.randn(1000, device=device)
    return _yes(torch.allclose(double(values), values.sin() * 2, atol=1e-5))


def flash_schema() -> str:
    return str(torch.ops.aten._flash_attention_forward.default._schema)


def varlen() -> str:
    from inspect import signature

    from torch.nn.attention import varlen as module

    return str(signature(module.varlen_attn))


def sdpa(chosen: Setting, name: str) -> str:
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query = torch.randn(1, 4, 8, 64, device=chosen.device, dtype=chosen.dtype)
    keys = torch.randn(1, 2, 8, 64, device=chosen.device, dtype=chosen.dtype)
    with sdpa_kernel(getattr(SDPBackend, name)):
        mixed = functional.scaled_dot_product_attention(query, keys, keys, enable_gqa=True)
    return _yes(bool(mixed.isfinite().all()))


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


if __name__ == "__main__":
    main()
