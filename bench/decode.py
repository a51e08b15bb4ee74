"""Milliseconds of a decode step by batch and context: the native engine's runner and its peers.

    python -m bench.decode [--model 1.7b] [--batches 1,8,32] [--contexts 150,500,2000] [--json out]

A step takes one token for every sequence, from the tokens of the step before to those of the next
on the host. Contexts are forced: the KV cache holds random rows. The official package and
transformers' port generate as they always do, one prompt of random hidden states a sequence, timed
between two tokens. The floor is the time to read weights and KV rows once, at the bandwidth that
reading a large tensor reaches in this run.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from bench.measuring import Case, interleaved, repeated, synchronise
from bench.models import (
    PeerAbsent,
    make_parameters,
    make_runner,
    official_thinker,
    port_model,
    triton_operations,
)
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from worker.engine.compiled_operations import CompiledOperations
from worker.engine.rows import DecodeRow
from worker.engine.runner import Runner
from worker.model.config import ModelConfig
from worker.model.operations import Operations, TorchOperations

STEPS = 10
"""Decode steps of one measurement."""
_GRAIN = 64
_BASELINE = "official package, generate"
_OURS = "native"


class Decoder(Protocol):
    """What takes decode steps."""

    def steps(self, batch: int, context: int) -> list[float]:
        """Seconds of each of STEPS steps of so many sequences of so many tokens."""


@dataclass(frozen=True, slots=True)
class NativeDecoder:
    """The engine's own runner; on a GPU read one step behind, as the engine does."""

    runner: Runner
    reads_behind: int

    def steps(self, batch: int, context: int) -> list[float]:
        stride = rows_of(1, context)
        flights = []
        stamps = []
        with torch.inference_mode():
            for step in range(STEPS + 1 + self.reads_behind):
                rows = [DecodeRow(slot, slot * stride, context + step) for slot in range(batch)]
                flights.append(self.runner.decode(rows))
                if len(flights) > self.reads_behind:
                    flights.pop(0).read()
                    stamps.append(time.perf_counter())
        return gaps(stamps)


@dataclass(frozen=True, slots=True)
class GeneratingDecoder:
    """transformers' generate(), which grows its cache by a token a step."""

    model: Any
    width: int
    vocabulary: int
    cache: str | None = None
    """cache_implementation; "static" is compiled on a GPU."""

    def steps(self, batch: int, context: int) -> list[float]:
        from transformers import GenerationConfig

        weight = self.model.get_input_embeddings().weight
        shape = (batch, context, self.width)
        stamps: list[float] = []

        def stamp(token_ids: Tensor, _scores: Tensor) -> Tensor:
            synchronise(weight.device)
            stamps.append(time.perf_counter())
            return torch.zeros(len(token_ids), dtype=torch.bool, device=weight.device)

        with torch.inference_mode():
            self.model.generate(
                inputs_embeds=torch.randn(shape, device=weight.device, dtype=weight.dtype),
                attention_mask=torch.ones(shape[:2], dtype=torch.long, device=weight.device),
                generation_config=GenerationConfig(
                    do_sample=False,
                    min_new_tokens=STEPS + 1,
                    max_new_tokens=STEPS + 1,
                    eos_token_id=self.vocabulary - 1,
                    pad_token_id=0,
                    cache_implementation=self.cache,
                ),
                stopping_criteria=[stamp],
            )
        return gaps(stamps)


class StaticDecoder:
    """transformers' port with a static cache, compiled as a whole."""

    def __init__(self, model: Any) -> None:
        self.model = model
        mode = "reduce-overhead" if model.device.type == "cuda" else "default"
        self._step = torch.compile(self._forward, mode=mode)

    def steps(self, batch: int, context: int) -> list[float]:
        from transformers import StaticCache

        text = self.model.config.text_config
        cache = StaticCache(config=text, max_cache_len=rows_of(1, context))
        prompt = torch.randn(batch, context, text.hidden_size).to(self.model.lm_head.weight)
        with torch.inference_mode():
            self.model.model.language_model(inputs_embeds=prompt, past_key_values=cache)
            tokens = torch.zeros(batch, 1, dtype=torch.long, device=prompt.device)
            stamps = []
            for step in range(STEPS + 1):
                position = torch.full((1, 1), context + step, device=prompt.device)
                tokens = self._step(tokens, position, cache).clone()
                tokens.cpu()
                stamps.append(time.perf_counter())
        return gaps(stamps)

    def _forward(self, tokens: Tensor, position: Tensor, cache: Any) -> Tensor:
        hidden = self.model.model.language_model(
            input_ids=tokens, position_ids=position, past_key_values=cache
        ).last_hidden_state
        picked: Tensor = self.model.lm_head(hidden).argmax(-1)
        return picked


def gaps(stamps: list[float]) -> list[float]:
    """Seconds from each to the next."""
    return [later - sooner for sooner, later in itertools.pairwise(stamps)]


def rows_of(batch: int, context: int) -> int:
    """KV rows of so many sequences that STEPS steps and a few more are taken with."""
    return batch * (-(-(context + STEPS + 4) // _GRAIN) * _GRAIN)


def main() -> None:
    arguments = parser(__doc__, rounds=3)
    arguments.add_argument("--batches", type=numbers)
    arguments.add_argument("--contexts", type=numbers)
    options = arguments.parse_args()
    chosen = setting("decode", options)
    on_gpu = chosen.on_gpu
    batches = options.batches or ([1, 8, 32, 64, 128, 256] if on_gpu else [1, 8, 32])
    contexts = options.contexts or ([150, 500, 2000] if on_gpu else [150, 500])
    parameters = make_parameters(chosen.model, chosen.device, chosen.dtype)
    largest = rows_of(max(batches), max(contexts))
    decoders = dict(natives(chosen, parameters, largest, max(batches)))
    decoders |= dict(peers(chosen, parameters.config))
    bandwidth = read_bandwidth(chosen)
    for batch in batches:
        for context in contexts:
            table = measured(chosen, decoders, batch, context)
            least = floor(parameters.config, chosen.dtype, batch, context, bandwidth)
            chosen.report.show(with_floor(table, least))
    chosen.report.note(f"bandwidth of reading a large tensor: {bandwidth / 1e9:.0f} GB/s")
    chosen.report.close()


def natives(
    chosen: Setting, parameters: Any, kv_rows: int, slots: int
) -> Iterator[tuple[str, Decoder]]:
    """Our own rows; they share one KV cache."""
    plain: Operations = TorchOperations()
    kinds: list[tuple[str, Operations, bool]] = []
    if chosen.on_gpu:
        try:
            kernels = triton_operations()
            kinds += [
                (_OURS, kernels, True),
                (f"{_OURS}, without graphs", kernels, False),
                (f"{_OURS}, elementwise compiled", CompiledOperations(kernels), True),
            ]
        except PeerAbsent as absent:
            chosen.report.note(f"absent: {_OURS} with Triton and graphs: {absent}")
        kinds.append((f"{_OURS}, torch alone", plain, False))
    else:
        kinds.append((_OURS, plain, False))
        kinds.append((f"{_OURS}, elementwise compiled", CompiledOperations(plain), False))
    shared = None
    for name, operations, with_graphs in kinds:
        rows = kv_rows if shared is None else 1
        runner = make_runner(
            parameters, operations, kv_rows=rows, slots=slots, with_graphs=with_graphs
        )
        shared = shared or runner
        runner.cache = shared.cache
        yield name, NativeDecoder(runner, int(chosen.on_gpu))


def peers(chosen: Setting, config: ModelConfig) -> Iterator[tuple[str, Decoder]]:
    """The others that are installed; at most one of them is, for they need other transformers."""
    make = (chosen.model, chosen.device, chosen.dtype)
    generating = partial(
        GeneratingDecoder, width=config.text.width, vocabulary=config.text.vocabulary
    )
    with noting_absence(chosen, _BASELINE):
        thinker = official_thinker(*make)
        thinker.lm_head.register_forward_pre_hook(_last_position)
        yield _BASELINE, generating(thinker)
    with noting_absence(chosen, "transformers' port"):
        port = port_model(*make)
        yield "transformers' port, generate", generating(port)
        yield "transformers' port, static cache, compiled", StaticDecoder(port)


@contextlib.contextmanager
def noting_absence(chosen: Setting, name: str) -> Iterator[None]:
    """Says which peer is not there, and goes on."""
    try:
        yield
    except PeerAbsent as absent:
        chosen.report.note(f"absent: {name}: {absent}")


def _last_position(_module: Any, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """As our official engine does: the package scores the whole prompt."""
    return (arguments[0][:, -1:], *arguments[1:])


def measured(chosen: Setting, decoders: dict[str, Decoder], batch: int, context: int) -> Table:
    """One row a decoder, ratios against the first peer that is there."""
    cases = [
        Case(name, partial(decoder.steps, batch, context)) for name, decoder in decoders.items()
    ]
    timings = interleaved(cases, chosen.rounds)
    baseline = next((name for name in timings if not name.startswith(_OURS)), _OURS)
    table = Table(
        f"decode step, batch {batch}, context {context}",
        ("", f"× {baseline}", "ms", "tokens/s", "noise %"),
    )
    for name, timing in timings.items():
        table.add(
            name,
            timings[baseline].median / timing.median,
            1000 * timing.median,
            batch / timing.median,
            100 * timing.noise,
        )
    return table


def with_floor(table: Table, least: float) -> Table:
    """The same with the share of the floor that each row reaches."""
    wider = Table(table.title, (*table.columns, "% of floor"))
    for row in table.rows:
        milliseconds = row[2]
        assert isinstance(milliseconds, float)
        wider.add(*row, 100 * 1000 * least / milliseconds)
    return wider


def floor(
    config: ModelConfig, dtype: torch.dtype, batch: int, context: int, bandwidth: float
) -> float:
    """Seconds to read the decoder's weights and all KV rows once."""
    kv = batch * context * config.text.kv_values_per_token * dtype.itemsize
    return (decoder_bytes(config, dtype) + kv) / bandwidth


def decoder_bytes(config: ModelConfig, dtype: torch.dtype) -> int:
    """Of the text decoder's weights, a tied embedding once."""
    text = config.text
    heads = text.heads + 2 * text.kv_heads
    layer = text.width * (heads + text.heads) * text.head_width + 3 * text.width * text.ffn_width
    return dtype.itemsize * (text.layers * layer + text.vocabulary * text.width)


def read_bandwidth(chosen: Setting) -> float:
    """Bytes per second of summing a tensor that no cache holds."""
    large = torch.zeros(2**31 if chosen.on_gpu else 2**28, dtype=torch.uint8, device=chosen.device)
    wide = large.view(torch.float32)
    seconds = repeated(lambda: wide.sum(), chosen.device, 10)()
    return large.nbytes / sorted(seconds)[len(seconds) // 2]


if __name__ == "__main__":
    main()
