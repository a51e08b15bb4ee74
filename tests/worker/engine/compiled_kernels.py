"""Program: compiles what TritonOperations launches for a card that need not be there.

Arguments: compute capability (90 for sm_90) and type of the tensors. Prints a line of JSON for each
kernel: its name, and the shared memory of one program in bytes.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
from torch import Tensor
from triton import JITFunction  # type: ignore[import-untyped]
from triton.backends.compiler import GPUTarget  # type: ignore[import-untyped]
from triton.compiler import ASTSource, compile  # type: ignore[import-untyped]

from worker.engine import kernels
from worker.model.operations import packed_extents

TYPES = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
    torch.int64: "*i64",
}
CPU = torch.device("cpu")
# The 1.7B model's.
WIDTH, FFN_WIDTH, HEADS, KV_HEADS, HEAD_WIDTH = 2048, 6144, 16, 8, 128


class Compiling:
    """In a kernel's place: compiles it with the arguments of a launch instead of launching it."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self._kernel = kernel
        self._target = GPUTarget("cuda", capability, 32)

    def __getitem__(self, grid: tuple[int, ...]) -> Compiling:
        return self

    def __call__(
        self, *arguments: Any, num_warps: int, num_stages: int = 3, **constants: Any
    ) -> None:
        names = self._kernel.arg_names
        signature = dict(zip(names, map(_type_name, arguments), strict=False))
        divisible = {
            (index,): [["tt.divisibility", 16]]
            for index, argument in enumerate(arguments)
            if names[index] not in kernels.ALIGNED_BY_CHANCE and _is_divisible(argument)
        }
        source = ASTSource(
            self._kernel, signature | dict.fromkeys(constants, "constexpr"), constants, divisible
        )
        options = {"num_warps": num_warps, "num_stages": num_stages}
        compiled = compile(source, target=self._target, options=options)
        assert compiled.asm["cubin"]
        line = {"kernel": self._kernel.__name__, "shared": compiled.metadata.shared}
        sys.stdout.write(json.dumps(line) + "\n")


def _type_name(argument: Any) -> str:
    if isinstance(argument, Tensor):
        return TYPES[argument.dtype]
    return "fp32" if isinstance(argument, float) else "i32"


def _is_divisible(argument: Any) -> bool:
    return isinstance(argument, Tensor) or (isinstance(argument, int) and argument % 16 == 0)


def main(capability: int, dtype: torch.dtype) -> None:
    for name, kernel in list(vars(kernels).items()):
        if isinstance(kernel, JITFunction) and _is_launched(kernel):
            setattr(kernels, name, Compiling(kernel, capability))
    card = kernels.Card(processors=132, has_tensor_cores=capability >= 80)
    launch_all(kernels.TritonOperations(card=card), dtype)


def _is_launched(kernel: Any) -> bool:
    """What returns something is called by other kernels."""
    return bool(kernel.fn.__annotations__["return"] == "None")


def launch_all(operations: kernels.TritonOperations, dtype: torch.dtype) -> None:
    hidden = torch.empty(2, WIDTH, dtype=dtype)
    for residual in (None, hidden):
        operations.add_rms_norm(hidden, residual, hidden[0], 1e-6)
    operations.silu_mul(torch.empty(2, 2 * FFN_WIDTH, dtype=dtype))
    keys, values = torch.empty(2, 64, KV_HEADS, HEAD_WIDTH, dtype=dtype)
    operations.rotate_and_store(
        torch.empty(2, (HEADS + 2 * KV_HEADS) * HEAD_WIDTH, dtype=dtype),
        hidden[0, :HEAD_WIDTH],
        hidden[0, :HEAD_WIDTH],
        1e-6,
        torch.empty(2, 2, HEAD_WIDTH // 2),
        torch.empty(2, dtype=torch.int64),
        keys,
        values,
    )
    for sequences in (1, 256):
        extents = packed_extents([(0, 1)] * sequences, [1] * sequences, CPU)
        query = torch.empty(sequences, HEADS, HEAD_WIDTH, dtype=dtype)
        operations.attend_one(query, keys, values, extents)
    for queries in (16, 64):
        extents = packed_extents([(0, 64)], [queries], CPU)
        query = torch.empty(queries, HEADS, HEAD_WIDTH, dtype=dtype)
        operations.attend(query, keys, values, extents)


if __name__ == "__main__":
    main(int(sys.argv[1]), getattr(torch, sys.argv[2]))
