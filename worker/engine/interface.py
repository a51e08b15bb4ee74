"""What the engine process asks of an engine, whatever runs inside. Imports neither torch nor numpy.

An engine turns chunks into text; it knows no recordings, sessions or requests.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from worker.sequence import Priority
from worker.text.alignment import Alignment
from worker.text.written_tokens import WrittenToken

if TYPE_CHECKING:
    import numpy as np


SAMPLE_RATE = 16_000
"""Samples per second of everything an engine is given."""

ChunkKey = tuple[str, int]
"""Request id and index of a chunk. Requests of one priority take turns."""

VramBudget = int | float | None
"""Device memory an engine may take: an int is bytes; a float a share, above 0 and at most 1, of
what is free when it loads; None the engine's default, which leaves a tenth of that to others."""


@dataclass(frozen=True, slots=True, eq=False)
class ChunkRequest:
    """One chunk, given to the model as one sequence."""

    samples: np.ndarray
    """float32, 16 kHz, mono, full scale 1.0."""
    language: str | None = None
    """English name as the model says it ("German"); None lets the model detect it."""
    context: str = ""
    """The caller's prompt and keywords as plain text; cut to CONTEXT_TOKENS by the engine."""
    temperature: float = 0.0
    """0 takes the likeliest token each time; above, tokens are sampled."""
    priority: Priority = Priority.INTERACTIVE
    wants_logprobs: bool = False
    utterance: str | None = None
    """The chunk is an utterance that grows: its samples begin with those given under this name
    before. What can be kept of its audio is kept for the next step, until `end_utterance`."""
    draft: tuple[int, ...] = ()
    """Output tokens of the step before, to be verified in one pass; the text is what it would be
    without them."""
    prefix: tuple[int, ...] = ()
    """Output tokens taken as said, unchecked: the official rollback strategy. The answer's tokens
    and text begin with them; logprobs are not told then."""
    most_new_tokens: int | None = None
    """Bound, at least 1, on tokens generated beyond `prefix`; the answer is cut off there. None:
    limits.py alone, which holds in any case."""
    wants_words: bool = False
    """Times of words matter; see ChunkText.alignment."""


@dataclass(frozen=True, slots=True)
class ChunkText:
    """What the model said about one chunk."""

    language: str | None
    """None when the model heard no speech."""
    text: str
    """Without the preamble; not yet repaired for repetitions."""
    prompt_tokens: int
    """All tokens of the prompt, the audio's included."""
    audio_tokens: int
    output_tokens: int
    """Tokens generated, preamble included, the end token not."""
    is_cut_off: bool = False
    """Generation ended at the token limit, which speech does not reach: a loop is likely."""
    logprobs: tuple[float, ...] | None = None
    """Natural logarithm of each output token's probability; None where not wanted or not known."""
    token_ids: tuple[int, ...] = ()
    """Output tokens, the end token not."""
    tokens: tuple[WrittenToken, ...] = ()
    """The text in UTF-8, token by token; empty where logprobs are, or where the text is not simply
    the end of the output."""
    alignment: Alignment | None = None
    """When its units were said, of the text as repaired; None where not wanted or not known."""


@dataclass(frozen=True, slots=True)
class ChunkFailure:
    """One chunk that could not be transcribed while the engine goes on serving others."""

    code: str
    """out_of_memory or inference_failed."""
    message: str
    """For the caller: no library text, no paths."""


@dataclass(frozen=True, slots=True)
class LoadProgress:
    """How far loading is; bytes of the stage, 0 of None where a stage has no bytes to count."""

    stage: str
    """download, imports, weights or warm_up."""
    done_bytes: int = 0
    total_bytes: int | None = None


ReportProgress = Callable[[LoadProgress], None]


class EngineFailure(Exception):
    """The engine as a whole cannot go on; the process ends and the supervisor decides.

    Codes: model_not_found, model_corrupt, unsupported_model, download_failed, out_of_memory,
    backend_missing, device_missing, device_lost. The message tells the operator what to do and
    holds no paths.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Cancelled(Exception):
    """Raised by an on_step callback to abandon a batch that nobody waits for any more."""


class Engine(Protocol):
    """Used from one thread: load, warm_up, then submit chunks and step while there is work.

    submit, cancel, end_utterance and run_alone may also be called from within a step's on_step.
    """

    @property
    def name(self) -> str:
        """native, official-transformers or official-vllm."""

    @property
    def max_chunk_seconds(self) -> float | None:
        """The checkpoint's own limit (max_chunk_seconds in its config.json); known after load."""

    @property
    def chunks_ahead(self) -> int:
        """Chunks of one recording worth submitting before the first is answered; known after load.

        Those that run, and those that are ready when they end.
        """

    @property
    def has_work(self) -> bool:
        """Whether a step would do something."""

    def load(self, report: ReportProgress) -> None:
        """Download where needed, import, put the weights on the device. Raises EngineFailure."""

    def warm_up(self) -> None:
        """One real inference, so that the first chunk pays for nothing. Raises EngineFailure."""

    def submit(self, key: ChunkKey, chunk: ChunkRequest) -> None:
        """Take a chunk; a later step answers it, with a ChunkFailure where it cannot be served.

        A key names one chunk at a time: it is free again once it was answered or cancelled. Of one
        request, chunks are begun in the order of their index.
        """

    def cancel(self, key: ChunkKey) -> None:
        """Forget a chunk, running or not: it gets no answer. Nothing happens for an unknown key.

        Its memory is free at the latest after the next step.
        """

    def end_utterance(self, utterance: str) -> None:
        """Nothing of it is needed again; nothing happens for an unknown one."""

    def text_so_far(self, key: ChunkKey) -> str | None:
        """What the model has written of a chunk that runs, preamble included, as it came.

        None where there is nothing yet, or the engine tells only at the end. Starts anew, and says
        the same again, where more urgent work displaced the chunk.
        """

    def run_alone(self, request_id: str | None) -> None:
        """Until told otherwise, infer nothing but chunks of this request, one at a time.

        Others keep their place and what is done of them. None: infer all again.
        """

    def expect_live(self, is_expected: bool) -> None:
        """Whether live work may come any moment: then no batch of files should take long."""

    def step(self, on_step: Callable[[], None]) -> list[tuple[ChunkKey, ChunkText | ChunkFailure]]:
        """Infer one batch; the answers of the chunks that are finished with it, in any order.

        Calls on_step often where the batch takes longer than some milliseconds. Raises
        EngineFailure when the device is lost, and what on_step raises.
        """

    def memory(self) -> dict[str, int]:
        """allocated_bytes, reserved_bytes, free_bytes of the device; empty without one."""


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """What to load and where to run it."""

    model_id: str
    """A hub id, a folder, or "embedded"."""
    cache_dir: Path
    """Downloads go here unless HF_HOME or HF_HUB_CACHE says otherwise."""
    engine: str = "native"
    """native or official."""
    backend: str = "transformers"
    """What the official engine runs on: transformers or vllm."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N; auto takes CUDA where there is a device."""
    dtype: str = "auto"
    """auto, float32, bfloat16 or float16; auto is float32 on CPU, bfloat16 on CUDA."""
    compile: bool = False
    """Compile elementwise parts of the text decoder. Slower first start; see docs/engine.md."""
    vram_budget: VramBudget = None
    """Native engine: device memory for weights and KV cache."""
    forced_aligner_id: str | None = None
    """A hub id or a folder of the model that measures times of words; None estimates them."""
    kept_free_bytes: int = 0
    """Device memory the native engine leaves to others in this process, whatever its budget."""
    max_chunk_seconds: float = 60.0
    """The longest chunk that will be submitted; a checkpoint's own limit may be lower."""
    threads: int = 2
    """CPU threads of one operation."""
