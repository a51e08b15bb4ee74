"""Compares the native engine with transformers 5's own port of Qwen3-ASR, in float32 on the CPU:
features, audio tokens, greedy tokens, and a checkpoint as the port stores it.

    python -m tools.second_oracle.compare
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tests.speech import digit_strings, human_speech_available
from tests.worker.engine.checkpoint_folders import scrambled
from tools.second_oracle.environment import oracle_python
from worker.engine.checkpoints import read_checkpoint, resolve_checkpoint
from worker.engine.creation import create_engine
from worker.engine.interface import (
    ChunkRequest,
    ChunkText,
    EngineSettings,
    LoadProgress,
)
from worker.engine.limits import LEAST_SAMPLES, output_token_limit
from worker.engine.mel import LogMel
from worker.engine.prompt import Prompter
from worker.engine.weights import load_parameters
from worker.model.audio_encoder import AudioEncoder
from worker.model.config import read_model_config

Samples = npt.NDArray[np.float32]
Clips = dict[str, Samples]

CPU = torch.device("cpu")
MOST_MEL_ERROR = 1e-4
MOST_AUDIO_ERROR = 1e-5
"""Of the largest value of a clip's audio tokens."""

# Below the least length, below a block, and around the ends of blocks and windows, in mel frames.
FRAMES = (30, 50, 93, 100, 101, 350, 799, 800, 801, 1600, 2050, 3000)


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one clip compares."""

    clip: str
    mel_error: float
    audio_error: float
    tokens: int
    is_same_text: bool
    is_same_text_of_port_checkpoint: bool

    @property
    def agrees(self) -> bool:
        return (
            self.mel_error < MOST_MEL_ERROR
            and self.audio_error < MOST_AUDIO_ERROR
            and self.is_same_text
            and self.is_same_text_of_port_checkpoint
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "checkpoint", nargs="?", default="embedded", help="embedded, or a folder of that layout"
    )
    options = parser.parse_args()
    folder = resolve_checkpoint(options.checkpoint, Path("unused"), _ignore)
    with tempfile.TemporaryDirectory() as temporary:
        verdicts = compare(folder, digits() | noises(), Path(temporary) / "trained")
        # Long senseless answers, each token hanging on all of the audio.
        other = scrambled(Path(temporary) / "random")
        verdicts += compare(other, noises(), Path(temporary) / "scrambled")
    for verdict in verdicts:
        print(row(verdict))
    agreeing = sum(verdict.agrees for verdict in verdicts)
    print(f"{agreeing} of {len(verdicts)} clips agree")
    sys.exit(agreeing < len(verdicts))


def compare(folder: Path, clips: Clips, exchange: Path) -> list[Verdict]:
    """One verdict a clip; exchange is an empty folder's name."""
    run_port(folder, clips, exchange)
    theirs: dict[str, list[int]] = json.loads((exchange / "tokens.json").read_text())
    ours, of_port_checkpoint = native_tokens(folder, clips), native_tokens(exchange / "hf", clips)
    with np.load(exchange / "answers.npz") as answers:
        encoded = our_audio(folder, clips)
        return [
            Verdict(
                clip=f"{exchange.name}, {name}",
                mel_error=largest(encoded[name][0].numpy() - answers[f"mel {name}"]),
                audio_error=largest(encoded[name][1].numpy() - answers[f"audio {name}"])
                / largest(answers[f"audio {name}"]),
                tokens=len(theirs[name]),
                is_same_text=ours[name] == theirs[name],
                is_same_text_of_port_checkpoint=of_port_checkpoint[name] == theirs[name],
            )
            for name in clips
        ]


def run_port(folder: Path, clips: Clips, exchange: Path) -> None:
    """Has the port answer for all clips, in an environment and a process of its own."""
    exchange.mkdir()
    arrays: dict[str, Any] = {**clips}
    np.savez(exchange / "clips.npz", **arrays)
    prompts = prompts_of(folder, clips)
    (exchange / "prompts.json").write_text(json.dumps(prompts))
    script = Path(__file__).with_name("port.py")
    subprocess.run([oracle_python(), script, folder, exchange], check=True)


def prompts_of(folder: Path, clips: Clips) -> dict[str, dict[str, Any]]:
    """Our prompts, so that both models are asked the same."""
    prompter = Prompter(folder)
    audio = read_model_config(read_checkpoint(folder).config).audio
    return {
        name: {
            "token_ids": prompter.token_ids(
                audio_tokens=audio.audio_tokens(max(len(samples), LEAST_SAMPLES) // 160),
                context="",
                language=None,
            ),
            "limit": output_token_limit(len(samples)),
        }
        for name, samples in clips.items()
    }


def our_audio(folder: Path, clips: Clips) -> dict[str, tuple[Tensor, Tensor]]:
    """Log-mel and audio tokens of each clip; the windows of all clips are one batch."""
    checkpoint = read_checkpoint(folder)
    config = read_model_config(checkpoint.config)
    parameters = load_parameters(
        checkpoint, config, device=CPU, dtype=torch.float32, report=_ignore
    )
    log_mel = LogMel(checkpoint.preprocessor, CPU)
    encoder = AudioEncoder(parameters.encoder, config.audio)
    with torch.inference_mode():
        mels = {name: log_mel(_padded(samples)) for name, samples in clips.items()}
        split = {name: mel.split(config.audio.window_frames, dim=1) for name, mel in mels.items()}
        encoded = iter(encoder.encode([window for windows in split.values() for window in windows]))
        return {
            name: (mels[name], torch.cat([next(encoded) for _ in windows]))
            for name, windows in split.items()
        }


def native_tokens(folder: Path, clips: Clips) -> dict[str, list[int]]:
    """What the native engine generates, all clips at once."""
    engine = create_engine(
        EngineSettings(str(folder), Path("unused"), device="cpu", dtype="float32", threads=1)
    )
    engine.load(_ignore)
    for name, samples in clips.items():
        engine.submit((name, 0), ChunkRequest(samples))
    tokens: dict[str, list[int]] = {}
    while engine.has_work:
        for (name, _), answer in engine.step(lambda: None):
            if not isinstance(answer, ChunkText):
                raise SystemExit(f"{name} failed: {answer.message}")
            tokens[name] = list(answer.token_ids)
    return tokens


def digits() -> Clips:
    """Spoken digit strings, where the recordings of tests/speech.py are on this machine."""
    if not human_speech_available():
        return {}
    spoken = digit_strings("theo", count=6, seed=5)
    return {each.text: each.samples.astype(np.float32) for each in spoken}


def noises() -> Clips:
    """Noise of lengths at which something begins or ends, some one sample off."""
    rng = np.random.default_rng(9)
    clips: Clips = {}
    for index, frames in enumerate(FRAMES):
        samples = 160 * frames + index % 3 - 1
        noise = rng.standard_normal(samples) * np.geomspace(0.001, 0.3, samples)
        clips[f"noise of {samples} samples"] = noise.astype(np.float32)
    return clips


def row(verdict: Verdict) -> str:
    """For people."""
    return (
        f"{'ok' if verdict.agrees else 'DIFFERS':8}{verdict.clip[:48]:50}"
        f"mel {verdict.mel_error:.1e}  audio {verdict.audio_error:.1e}"
        f"  {verdict.tokens:4} tokens {'equal' if verdict.is_same_text else 'differ'}, of the"
        f" port's checkpoint {'equal' if verdict.is_same_text_of_port_checkpoint else 'differ'}"
    )


def largest(values: npt.NDArray[np.float32]) -> float:
    return float(np.abs(values).max())


def _padded(samples: Samples) -> Tensor:
    missing = max(0, LEAST_SAMPLES - len(samples))
    return torch.from_numpy(np.pad(samples, (0, missing)))


def _ignore(_progress: LoadProgress) -> None:
    pass


if __name__ == "__main__":
    main()
