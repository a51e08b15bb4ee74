"""What the device can do at best, and how near the native engine comes.

    python -m bench.floor [--model 1.7b] [--rows 1,8,64,256] [--context 500] [--json out]

Floors are written by hand and as short as can be: copying, reading and multiplying large tensors;
all matrix products of a decode step after each other, nothing between them; reading KV rows. On a
GPU the products are replayed as one CUDA graph. The engine's decode step stands beside their sum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn import functional

from bench.decode import NativeDecoder, rows_of
from bench.measuring import Case, Timing, interleaved, repeated
from bench.models import PeerAbsent, make_parameters, make_runner, triton_operations
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from worker.engine.cuda_graphs import CudaCapture
from worker.engine.runner import Runner
from worker.model.parameters import ModelParameters

_TIMES = 5


def main() -> None:
    arguments = parser(__doc__, rounds=4)
    arguments.add_argument("--rows", type=numbers)
    arguments.add_argument("--context", type=int, default=500)
    options = arguments.parse_args()
    chosen = setting("floor", options)
    rows = options.rows or ([1, 8, 64, 256] if chosen.on_gpu else [1, 8, 64])
    chosen.report.show(device_table(chosen))
    parameters = make_parameters(chosen.model, chosen.device, chosen.dtype)
    runner = native_runner(chosen, parameters, max(rows), options.context)
    table = Table(
        f"decode step, context {options.context}, ms",
        ("rows", "products", "KV read", "sum", "native", "× sum", "weights GB/s", "noise %"),
    )
    for count in rows:
        timings = interleaved(
            list(cases(chosen, runner, parameters, count, options.context)), chosen.rounds
        )
        table.add(str(count), *step_cells(timings, parameters))
    chosen.report.show(table)
    chosen.report.close()


def device_table(chosen: Setting) -> Table:
    """Copy, read and product of large tensors."""
    size = 2**30 if chosen.on_gpu else 2**27
    side = 8192 if chosen.on_gpu else 1024
    source = torch.zeros(size, dtype=torch.uint8, device=chosen.device)
    target = torch.empty_like(source)
    wide = source.view(torch.float32)
    matrix = torch.randn(side, side, device=chosen.device, dtype=chosen.dtype)
    works: dict[str, tuple[Callable[[], object], float, str]] = {
        "copy": (lambda: target.copy_(source), 2 * size / 1e9, "GB/s"),
        "read": (lambda: wide.sum(), size / 1e9, "GB/s"),
        f"product of {side} x {side}": (lambda: matrix @ matrix, 2 * side**3 / 1e12, "TFLOP/s"),
    }
    timings = interleaved(
        [Case(name, repeated(work[0], chosen.device, _TIMES)) for name, work in works.items()],
        chosen.rounds,
    )
    table = Table("the device", ("", "ms", "", "", "noise %"))
    for name, (_, amount, unit) in works.items():
        timing = timings[name]
        cells = (1000 * timing.median, amount / timing.median, unit, 100 * timing.noise)
        table.add(name, *cells)
    return table


def native_runner(chosen: Setting, parameters: ModelParameters, rows: int, context: int) -> Runner:
    """As the engine has it on this device."""
    operations, with_graphs = None, False
    if chosen.on_gpu:
        try:
            operations, with_graphs = triton_operations(), True
        except PeerAbsent as absent:
            chosen.report.note(f"absent: Triton and graphs: {absent}")
    kv_rows = rows_of(rows, context)
    return make_runner(parameters, operations, kv_rows=kv_rows, slots=rows, with_graphs=with_graphs)


def cases(
    chosen: Setting, runner: Runner, parameters: ModelParameters, rows: int, context: int
) -> Iterator[Case]:
    """The floors and our decode step, for so many rows."""
    products = product_chain(chosen, parameters, rows)
    yield Case("products", repeated(products, chosen.device, _TIMES))
    reads = kv_reads(runner, rows, context)
    yield Case("KV read", repeated(reads, chosen.device, _TIMES))
    ours = NativeDecoder(runner, int(chosen.on_gpu))
    yield Case("native", lambda: ours.steps(rows, context))


def product_chain(chosen: Setting, parameters: ModelParameters, rows: int) -> Callable[[], object]:
    """Every matrix product of a decode step on hidden states of its own."""
    decoder = parameters.decoder
    weights = [
        weight
        for layer in decoder.layers
        for weight in (layer.qkv, layer.attention_out, layer.gate_up, layer.down)
    ]
    weights.append(decoder.head)
    hidden = {
        width: torch.randn(rows, width, device=chosen.device, dtype=chosen.dtype)
        for width in {weight.shape[1] for weight in weights}
    }

    def chain(*_inputs: Tensor) -> tuple[Tensor, ...]:
        with torch.inference_mode():
            for weight in weights:
                last = functional.linear(hidden[weight.shape[1]], weight)
        return (last,)

    if not chosen.on_gpu:
        return chain
    replay, _outputs = CudaCapture()(chain, ())
    return replay


def kv_reads(runner: Runner, rows: int, context: int) -> Callable[[], object]:
    """Reads the keys and values of so many sequences once, in all layers."""
    last = rows * context

    def read() -> None:
        for keys, values in runner.cache.layers:
            keys[:last].amax()
            values[:last].amax()

    return read


def step_cells(timings: dict[str, Timing], parameters: ModelParameters) -> list[float]:
    """A row of the table behind its first cell."""
    products, reads = timings["products"].median, timings["KV read"].median
    native = timings["native"].median
    decoder = parameters.decoder
    weight_bytes = decoder.head.nbytes + sum(
        weight.nbytes
        for layer in decoder.layers
        for weight in (layer.qkv, layer.attention_out, layer.gate_up, layer.down)
    )
    milliseconds = [1000 * seconds for seconds in (products, reads, products + reads, native)]
    noise = max(timing.noise for timing in timings.values())
    ratio = native / (products + reads)
    return [*milliseconds, ratio, weight_bytes / products / 1e9, 100 * noise]


if __name__ == "__main__":
    main()
