"""Runs batches on the device: encoder windows, prefill and verification, decode steps.

Knows rows, slots and tensors, but no requests. Tokens are fed back on the device: a decode step
needs nothing from the host that depends on the step before, so the host may read one step late.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from worker.engine.cuda_graphs import GraphCache, bucket_of
from worker.engine.limits import LEAST_SHARE
from worker.engine.rows import BROKEN, Choice, DecodeRow, TokenRun
from worker.model.audio_encoder import AudioEncoder
from worker.model.operations import Extents, Operations, on_device, packed_extents
from worker.model.parameters import ModelParameters
from worker.model.text_decoder import KvCache, PackedTokens, TextDecoder

_Table = list[list[int]]

SMALL_DECODER = 10_000_000
"""Numbers in the attention projections of all layers: for fewer, waking a second thread takes
longer than what it saves; docs/benchmarks.md. The 0.6B model has 117 million."""

# Padding to a bucket costs less than the launches that a graph saves; above the largest, one pass
# is long enough to hide its launches.
DECODE_BUCKETS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
TOKEN_BUCKETS = (32, 64, 128, 192, 256, 384, 512)
RUN_BUCKET = 16
WINDOW_BUCKETS = (1, 2, 4, 8, 16)
SCORED_AT_ONCE = 256
"""Picks: a row of scores has as many numbers as the vocabulary has tokens."""


class Launched:
    """A batch on its way. read() waits for it; seconds is how long the device worked on it."""

    def __init__(self, timer: _Timer, picks: Tensor | None, logprobs: Tensor | None) -> None:
        self._timer = timer
        self._picks = _to_host(picks)
        self._logprobs = _to_host(logprobs)
        timer.stop()

    def read(self) -> tuple[list[int], list[float]]:
        """Picked tokens in the order of the batch (BROKEN where there was none to pick), and their
        logprobs (0 for those that want none); no logprobs where nobody wants any."""
        self._timer.wait()
        picks = [] if self._picks is None else self._picks.tolist()
        return picks, [] if self._logprobs is None else self._logprobs.tolist()

    @property
    def seconds(self) -> float:
        """Valid once read."""
        return self._timer.seconds


class Runner:
    """One model on one device, with the KV cache and the newest token of every slot.

    Everything is to be called in torch's inference mode.
    """

    def __init__(
        self,
        parameters: ModelParameters,
        operations: Operations,
        *,
        kv_rows: int,
        slots: int,
        spare_row: int,
        graphs: GraphCache | None,
        threads: int | None = None,
    ) -> None:
        """`threads` is how many a CPU may use; None leaves that to torch. `spare_row` is the first
        row of a region that padding may write: as many as the largest bucket of tokens has, where
        graphs are used."""
        embedding = parameters.decoder.embedding
        self.device = embedding.device
        self._encoder = AudioEncoder(parameters.encoder, parameters.config.audio)
        self._decoder = TextDecoder(parameters.decoder, parameters.config.text, operations)
        self._shape = parameters.config.audio
        self.cache = KvCache(parameters.config.text, kv_rows, self.device, embedding.dtype)
        self._spare_slot = slots
        self._spare_row = spare_row
        self._newest = torch.zeros(slots + 1, dtype=torch.int64, device=self.device)
        self._graphs = graphs
        self._threads = None
        if threads is not None and self.device.type == "cpu":
            is_small = sum(layer.qkv.numel() for layer in parameters.decoder.layers) < SMALL_DECODER
            self._threads = (threads, 1 if is_small else threads)

    def __repr__(self) -> str:
        return f"<Runner on {self.device}, {self.cache!r}, graphs {self._graphs!r}>"

    def embed(self, token_ids: Sequence[int]) -> Tensor:
        """Token ids -> hidden states (tokens, width)."""
        return self._decoder.embed(on_device(torch.tensor(token_ids), self.device))

    def encode(self, windows: Sequence[Tensor]) -> tuple[list[Tensor], Launched]:
        """Log-mel windows (mel_bins, frames) -> the audio tokens of each (tokens, width)."""
        timer = self._begun(is_encoder=True)
        bucket = bucket_of(len(windows), WINDOW_BUCKETS) if self._graphs else None
        if self._graphs is None or bucket is None:
            return self._encoder.encode(windows), Launched(timer, None, None)
        (encoded,) = self._graphs.run(
            ("encode", bucket), self._encode, *self._padded_windows(windows, bucket)
        )
        encoded = encoded[: len(windows)].clone()  # the next replay overwrites it
        audio = [
            tokens[: self._shape.audio_tokens(window.shape[1])]
            for tokens, window in zip(encoded, windows, strict=True)
        ]
        return audio, Launched(timer, None, None)

    def decode(self, rows: Sequence[DecodeRow]) -> Launched:
        """One token for every sequence."""
        timer = self._begun()
        lines = [[row.slot, row.first_row, row.position] for row in rows]
        bucket = bucket_of(len(rows), DECODE_BUCKETS) if self._graphs else None
        if self._graphs is None or bucket is None:
            table = self._table(lines)
            spans = tuple((row.first_row, row.position + 1) for row in rows)
            picks, scores = self._decode(table, spans)
        else:
            padding = [[self._spare_slot, self._spare_row, 0]] * (bucket - len(rows))
            table = self._table(lines + padding)
            picks, scores = self._graphs.run(("decode", bucket), self._decode, table)
        choices = [row.choice for row in rows]
        return self._launched(timer, iter(((picks, scores),)), choices, table[:, 0])

    def extend(self, runs: Sequence[TokenRun]) -> Launched:
        """Prefill or verification: the picks of all runs, one after another."""
        timer = self._begun()
        counts = [len(run.hidden) for run in runs]
        bucket = bucket_of(sum(counts), TOKEN_BUCKETS) if self._graphs else None
        slots, picked = self._table(self._pick_table(runs, counts)).unbind(1)
        choices = [run.choice for run in runs for _ in range(run.picks)]
        if self._graphs is None or bucket is None or len(runs) > RUN_BUCKET:
            parts = self._extend_as_is(runs, counts, picked)
        else:
            parts = iter((self._extend_by_graph(self._graphs, runs, counts, picked, bucket),))
        return self._launched(timer, parts, choices, slots)

    def _begun(self, *, is_encoder: bool = False) -> _Timer:
        if self._threads is not None:
            torch.set_num_threads(self._threads[0] if is_encoder else self._threads[1])
        return _Timer(self.device)

    # --- what a graph may record: nothing here asks the host, and doing it twice is harmless ----

    def _encode(self, mel: Tensor, counts: Tensor) -> tuple[Tensor]:
        return (self._encoder.forward(mel, counts),)

    def _decode(
        self, table: Tensor, spans: tuple[tuple[int, int], ...] = ()
    ) -> tuple[Tensor, Tensor]:
        """table (rows, 3) int64: slot, first row, position."""
        slots, first_rows, positions = table.unbind(1)
        lengths = (positions + 1).int()
        order = torch.arange(len(table), dtype=torch.int32, device=self.device)
        extents = Extents(first_rows.int(), lengths, order, torch.ones_like(order), 1, spans)
        tokens = PackedTokens(positions, first_rows + positions, extents)
        hidden = self._decoder.embed(self._newest[slots])
        scores = self._decoder.scores(self._decoder.forward(hidden, tokens, self.cache))
        return _likeliest(scores), scores

    def _extend(
        self, hidden: Tensor, tokens: PackedTokens, picked: Tensor
    ) -> tuple[Tensor, Tensor]:
        """picked (picks,): packed tokens whose successors are picked."""
        hidden = self._decoder.forward(hidden, tokens, self.cache)
        scores = self._decoder.scores(hidden[picked])
        return _likeliest(scores), scores

    # --- batches ----------------------------------------------------------------------------

    def _padded_windows(self, windows: Sequence[Tensor], bucket: int) -> tuple[Tensor, Tensor]:
        mel, counts = self._encoder.pack(windows)
        missing = bucket - len(windows)
        shorter = self._shape.window_frames - mel.shape[2]
        return pad(mel, (0, shorter, 0, 0, 0, missing)), pad(counts, (0, missing))

    def _extend_as_is(
        self, runs: Sequence[TokenRun], counts: Sequence[int], picked: Tensor
    ) -> Iterator[tuple[Tensor, Tensor]]:
        spans = [
            (run.first_row, run.position + count) for run, count in zip(runs, counts, strict=True)
        ]
        positions, rows = self._table(_token_table(runs, counts)).unbind(1)
        extents = packed_extents(spans, counts, self.device)
        hidden = torch.cat([run.hidden for run in runs])
        tokens = PackedTokens(positions, rows, extents)
        hidden = self._decoder.forward(hidden, tokens, self.cache)
        for part in picked.split(SCORED_AT_ONCE):
            scores = self._decoder.scores(hidden[part])
            yield _likeliest(scores), scores

    def _extend_by_graph(
        self,
        graphs: GraphCache,
        runs: Sequence[TokenRun],
        counts: Sequence[int],
        picked: Tensor,
        bucket: int,
    ) -> tuple[Tensor, Tensor]:
        token_table = _token_table(runs, counts)
        token_table += [[0, self._spare_row + place] for place in range(bucket - len(token_table))]
        most_picks = RUN_BUCKET if len(picked) <= RUN_BUCKET else bucket
        run_table = [
            [run.first_row, run.position + count, sum(counts[:index]), count]
            for index, (run, count) in enumerate(zip(runs, counts, strict=True))
        ]
        run_table += [[self._spare_row, 0, 0, 0]] * (RUN_BUCKET - len(run_table))
        hidden = torch.cat([run.hidden for run in runs])
        padded = pad(hidden, (0, 0, 0, bucket - len(hidden)))

        def body(
            hidden: Tensor, token_table: Tensor, run_table: Tensor, picked: Tensor
        ) -> tuple[Tensor, Tensor]:
            positions, rows = token_table.unbind(1)
            starts, lengths, query_starts, query_counts = run_table.int().unbind(1)
            extents = Extents(starts, lengths, query_starts, query_counts, bucket)
            tokens = PackedTokens(positions, rows, extents)
            return self._extend(hidden, tokens, picked)

        tables = (self._table(token_table), self._table(run_table))
        picked = pad(picked, (0, most_picks - len(picked)))
        picks, scores = graphs.run(("extend", bucket, most_picks), body, padded, *tables, picked)
        return picks, scores

    def _pick_table(self, runs: Sequence[TokenRun], counts: Sequence[int]) -> _Table:
        """A line for each pick: slot, packed token. Only a run's last pick goes to its slot."""
        table: _Table = []
        end = 0
        for run, count in zip(runs, counts, strict=True):
            end += count
            table += [[self._spare_slot, place] for place in range(end - run.picks, end)]
            if run.picks:
                table[-1][0] = run.slot
        return table

    # --- picking --------------------------------------------------------------------------------

    def _launched(
        self,
        timer: _Timer,
        parts: Iterator[tuple[Tensor, Tensor]],
        choices: Sequence[Choice],
        slots: Tensor,
    ) -> Launched:
        """Draws where that is wanted and feeds the picks back. `parts` are picks and scores, in the
        order of `choices`; beyond those is padding."""
        is_logged = any(choice.wants_logprob for choice in choices)
        all_picks: list[Tensor] = []
        all_logprobs: list[Tensor] = []
        for picks, scores in parts:
            own = choices[sum(map(len, all_picks)) :][: len(picks)]
            picks, scores = picks[: len(own)], scores[: len(own)]
            all_picks.append(_with_drawn(picks, scores, own))
            if is_logged:
                all_logprobs.append(_logprobs(scores, all_picks[-1], own))
        if not choices:
            return Launched(timer, None, None)
        picks = all_picks[0] if len(all_picks) == 1 else torch.cat(all_picks)
        launched = Launched(timer, picks, torch.cat(all_logprobs) if is_logged else None)
        # Last: where memory fails before, the batch runs again, and on the same tokens.
        self._newest[slots[: len(choices)]] = picks.clamp_min(0)
        return launched

    def _table(self, lines: _Table) -> Tensor:
        """Integers the host knows, on the device."""
        table = torch.tensor(lines, dtype=torch.int64) if lines else torch.empty((0, 2)).long()
        return on_device(table, self.device)


class _Timer:
    """How long the device worked between construction and stop()."""

    def __init__(self, device: torch.device) -> None:
        self._events: tuple[torch.cuda.Event, torch.cuda.Event] | None = None
        self._begun = time.perf_counter()
        self._elapsed = 0.0
        if device.type == "cuda":
            self._events = (_timing_event(), _timing_event())
            self._events[0].record()

    def stop(self) -> None:
        if self._events is None:
            self._elapsed = time.perf_counter() - self._begun
        else:
            self._events[1].record()

    def wait(self) -> None:
        if self._events is not None:
            self._events[1].synchronize()

    @property
    def seconds(self) -> float:
        if self._events is None:
            return self._elapsed
        return float(self._events[0].elapsed_time(self._events[1])) / 1000


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)


def _token_table(runs: Sequence[TokenRun], counts: Sequence[int]) -> _Table:
    """A line for each packed token: position, KV row."""
    return [
        [position, run.first_row + position]
        for run, count in zip(runs, counts, strict=True)
        for position in range(run.position, run.position + count)
    ]


def _likeliest(scores: Tensor) -> Tensor:
    """(rows, vocabulary) -> (rows,); BROKEN where the best score is not finite (NaN wins max)."""
    best, tokens = scores.max(-1)
    return torch.where(best.isfinite(), tokens, BROKEN)


def _with_drawn(picks: Tensor, scores: Tensor, choices: Sequence[Choice]) -> Tensor:
    """The likeliest tokens, but for sequences that draw theirs."""
    drawing = [index for index, choice in enumerate(choices) if choice.generator is not None]
    if drawing:
        drawn = _drawn(scores[drawing], [choices[index] for index in drawing])
        picks[drawing] = torch.where(picks[drawing] == BROKEN, BROKEN, drawn)
    return picks


def _drawn(scores: Tensor, choices: Sequence[Choice]) -> Tensor:
    """A token for each of (rows, vocabulary), with probability softmax(scores / temperature) among
    those with LEAST_SHARE of the best one's: the Gumbel-max trick. What is random is drawn row by
    row, from each row's own generator."""
    noise = torch.empty_like(scores, dtype=torch.float32)
    for row, choice in zip(noise, choices, strict=True):
        row.exponential_(generator=choice.generator)
    noise = noise.clamp_min_(torch.finfo(torch.float32).tiny).log_()
    temperatures = torch.tensor([[choice.temperature] for choice in choices], device=scores.device)
    scaled = scores.float() / temperatures
    least = scaled.amax(-1, keepdim=True) + math.log(LEAST_SHARE)
    return (scaled - noise).masked_fill(scaled < least, -torch.inf).argmax(-1)


def _logprobs(scores: Tensor, picks: Tensor, choices: Sequence[Choice]) -> Tensor:
    """Of the picks that want one; 0 for others."""
    logprobs = torch.zeros(len(choices), device=scores.device)
    wanting = [index for index, choice in enumerate(choices) if choice.wants_logprob]
    if wanting:
        wide = scores[wanting].float()
        picked = wide.gather(1, picks[wanting].clamp_min(0)[:, None])[:, 0]
        logprobs[wanting] = picked - wide.logsumexp(-1)
    return logprobs


def _to_host(tensor: Tensor | None) -> Tensor | None:
    """A copy, on its way to pinned memory where there is a device, valid once that has come so far.

    A copy on the CPU too: a graph's next replay overwrites what it put out.
    """
    if tensor is None or tensor.device.type == "cpu":
        return None if tensor is None else tensor.clone()
    pinned = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
    return pinned.copy_(tensor, non_blocking=True)
