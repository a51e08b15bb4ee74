"""The audio encoder over batches of 8 s windows, and log-mel features, against the peers.

    python -m bench.encoder [--model 1.7b] [--windows 1,2,4,16] [--json out]

The official package's modules are fed windows as our official engine feeds them; transformers' port
takes its padded features as its processor makes them. Features are those of 30 s of noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from bench.decode import noting_absence
from bench.measuring import Case, Timing, interleaved, repeated
from bench.models import (
    EMBEDDED,
    make_parameters,
    make_runner,
    official_thinker,
    port_model,
)
from bench.options import Setting, numbers, parser, setting
from bench.report import Table
from worker.engine.checkpoints import read_checkpoint
from worker.engine.encoder import encode_windows
from worker.engine.interface import SAMPLE_RATE
from worker.engine.mel import LogMel
from worker.model.config import AudioEncoderConfig
from worker.model.parameters import ModelParameters

_TIMES = 3
_MEL_SECONDS = 30
_OFFICIAL = "official package"
_EXTRACTOR = "feature extractor of transformers"

Encoder = Callable[[list[Tensor]], object]


def main() -> None:
    arguments = parser(__doc__, rounds=4)
    arguments.add_argument("--windows", type=numbers, default=[1, 2, 4, 16])
    options = arguments.parse_args()
    chosen = setting("encoder", options)
    parameters = make_parameters(chosen.model, chosen.device, chosen.dtype)
    shape = parameters.config.audio
    with torch.inference_mode():
        encoders = dict(installed(chosen, parameters))
        for count in options.windows:
            chosen.report.show(windows_table(chosen, encoders, shape, count))
        chosen.report.show(mel_table(chosen))
    chosen.report.close()


def installed(chosen: Setting, parameters: ModelParameters) -> Iterator[tuple[str, Encoder]]:
    """Ours first."""
    make = (chosen.model, chosen.device, chosen.dtype)
    if chosen.on_gpu:
        with_graphs = make_runner(parameters, kv_rows=64, slots=1, with_graphs=True)
        yield "native", with_graphs.encode
    eager = make_runner(parameters, kv_rows=64, slots=1)
    yield "native, without graphs" if chosen.on_gpu else "native", eager.encode
    with noting_absence(chosen, _OFFICIAL):
        yield _OFFICIAL, partial(encode_windows, official_thinker(*make).audio_tower)
    with noting_absence(chosen, "transformers' port"):
        yield "transformers' port", partial(_encode_by_port, port_model(*make))


def _encode_by_port(port: Any, windows: list[Tensor]) -> object:
    mel = torch.stack(windows)
    mask = torch.ones(len(mel), mel.shape[2], dtype=torch.long, device=mel.device)
    return port.get_audio_features(mel, mask, return_dict=True).pooler_output


def windows_table(
    chosen: Setting, encoders: dict[str, Encoder], shape: AudioEncoderConfig, count: int
) -> Table:
    """So many whole windows together."""
    size = (shape.mel_bins, shape.window_frames)
    windows = [torch.randn(size, device=chosen.device).to(chosen.dtype) for _ in range(count)]
    cases = [
        Case(name, repeated(partial(encode, windows), chosen.device, _TIMES))
        for name, encode in encoders.items()
    ]
    seconds = count * shape.window_frames / 100
    return table_of(
        f"{count} windows of 8 s", interleaved(cases, chosen.rounds), _OFFICIAL, seconds
    )


def mel_table(chosen: Setting) -> Table:
    """Log-mel features, where the engine makes them."""
    from transformers.models.whisper.feature_extraction_whisper import WhisperFeatureExtractor

    preprocessor = read_checkpoint(EMBEDDED).preprocessor
    ours = LogMel(preprocessor, chosen.device)
    theirs = WhisperFeatureExtractor.from_dict(preprocessor)
    samples = torch.randn(_MEL_SECONDS * SAMPLE_RATE) * 0.1
    there = samples.to(chosen.device)
    extract = partial(
        theirs,
        samples.numpy(),
        sampling_rate=SAMPLE_RATE,
        padding=True,
        truncation=False,
        device=str(chosen.device),
    )
    cases = [
        Case("native", repeated(lambda: ours(there), chosen.device, _TIMES)),
        Case(_EXTRACTOR, repeated(extract, chosen.device, _TIMES)),
    ]
    return table_of(
        f"log-mel of {_MEL_SECONDS} s", interleaved(cases, chosen.rounds), _EXTRACTOR, _MEL_SECONDS
    )


def table_of(title: str, timings: dict[str, Timing], wanted: str, seconds: float) -> Table:
    """Ratios against the baseline wanted, or the last row where that is absent."""
    baseline = wanted if wanted in timings else list(timings)[-1]
    table = Table(title, ("", f"× {baseline}", "ms", "audio s/s", "noise %"))
    for name, timing in timings.items():
        ratio = timings[baseline].median / timing.median
        pace = seconds / timing.median
        table.add(name, ratio, 1000 * timing.median, pace, 100 * timing.noise)
    return table


if __name__ == "__main__":
    main()
