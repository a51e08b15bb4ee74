"""Train the embedded model; starting again with the same folders continues where it stopped.

    python -m tools.tiny_model.train RECORDINGS SYNTHESISED OUT

OUT/run.pt holds the whole state, OUT/model the averaged weights as a loadable checkpoint.
"""

import argparse
import json
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader

from tools.tiny_model.build import Shape, build_checkpoint
from tools.tiny_model.corpus import human_training_clips, load_clips
from tools.tiny_model.network import encode, read
from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor
from tools.tiny_model.speech_data import TRAILING_ENDS, Batch, BatchMaker

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides what the training gives, besides the data."""

    steps: int = 14_000
    peak_learning_rate: float = 1.2e-3
    warm_up_steps: int = 200
    final_learning_rate_share: float = 0.01
    weight_decay: float = 0.05
    gradient_norm: float = 1.0
    average_decay: float = 0.9985
    """Of the exponential moving average of the weights, which is what is kept."""
    label_smoothing: float = 0.02
    trailing_end_weight: float = 0.3
    ctc_weight: float = 1.0
    late_ctc_weight: float = 0.3
    """After 30 % of the steps; the CTC head teaches the encoder to align and is thrown away."""
    seed: int = 1
    shape: Shape = field(default_factory=Shape)


class Run:
    """A model in training with all that an interruption must not lose."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        self.recipe = recipe
        self.folder = folder
        self.step = 0
        initial = folder / "initial"
        build_checkpoint(initial, recipe.shape, recipe.seed)
        self.processor = Qwen3ASRProcessor.from_pretrained(initial)
        self.model = Qwen3ASRForConditionalGeneration.from_pretrained(initial).train()
        self.ctc_head = nn.Linear(recipe.shape.width, 11)
        self.parameters = [*self.model.parameters(), *self.ctc_head.parameters()]
        self.average = [weight.detach().clone() for weight in self.model.parameters()]
        self.optimizer = self._optimizer()

    def __repr__(self) -> str:
        return f"<Run at step {self.step} of {self.recipe.steps} in {self.folder}>"

    @property
    def _state_path(self) -> Path:
        return self.folder / "run.pt"

    def resume(self) -> None:
        """Take up the stored state, if there is one made with the same recipe."""
        if not self._state_path.exists():
            return
        state = torch.load(self._state_path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            raise ValueError(f"{self._state_path} was made with another recipe: use another folder")
        self.model.load_state_dict(state["model"])
        self.ctc_head.load_state_dict(state["ctc_head"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        self.step = state["step"]

    def save(self) -> None:
        """Store the state, whole or not at all, and the averaged weights as a checkpoint."""
        state = {
            "recipe": asdict(self.recipe),
            "model": self.model.state_dict(),
            "ctc_head": self.ctc_head.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average,
            "step": self.step,
        }
        partial = self._state_path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self._state_path)
        self._export_average(self.folder / "model")

    def learn(self, batch: Batch) -> dict[str, float]:
        """One optimiser step; returns its losses and learning rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.recipe, self.step)
        losses = self._losses(batch)
        is_late = self.step >= 0.3 * self.recipe.steps
        ctc_weight = self.recipe.late_ctc_weight if is_late else self.recipe.ctc_weight
        loss = losses["answer"] + ctc_weight * losses["ctc"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.recipe.gradient_norm)
        if not (bool(torch.isfinite(loss)) and bool(torch.isfinite(norm))):
            raise FloatingPointError(f"loss {loss.item()}, gradient {norm.item()}: {self!r}")
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {name: float(value.detach()) for name, value in losses.items()} | {
            "norm": float(norm)
        }

    def _losses(self, batch: Batch) -> dict[str, Tensor]:
        thinker = self.model.thinker
        with torch.autocast("cpu", dtype=torch.bfloat16):
            audio, tokens = encode(thinker.audio_tower, batch.features, batch.frames)
            states = read(thinker, audio, tokens, batch.before_audio, batch.after_audio)
            rows, places, targets, is_trailing = learnt_tokens(batch, tokens.tolist())
            filler = -len(rows) % 128  # few shapes, few kernels
            wanted = states[rows + [0] * filler, places + [0] * filler]
            logits = thinker.lm_head(wanted)[: len(rows)].float()
        each = F.cross_entropy(
            logits,
            torch.tensor(targets),
            reduction="none",
            label_smoothing=self.recipe.label_smoothing,
        )
        weight = torch.where(torch.tensor(is_trailing), self.recipe.trailing_end_weight, 1.0)
        answer = (each * weight).sum() / weight.sum()
        is_right = (logits.argmax(-1) == torch.tensor(targets)).float().mean()
        ctc = ctc_loss(self.ctc_head(audio.float()), tokens, batch.digits)
        return {"answer": answer, "ctc": ctc, "right": is_right}

    def _update_average(self) -> None:
        decay = min(self.recipe.average_decay, self.step / (self.step + 20))
        weights = [weight.detach() for weight in self.model.parameters()]
        torch._foreach_lerp_(self.average, weights, 1 - decay)

    def _export_average(self, folder: Path) -> None:
        trained = [weight.detach().clone() for weight in self.model.parameters()]
        self._set_weights(self.average)
        self.model.save_pretrained(folder, safe_serialization=True)
        self.processor.save_pretrained(folder)
        self._set_weights(trained)

    def _set_weights(self, values: list[Tensor]) -> None:
        with torch.no_grad():
            torch._foreach_copy_(list(self.model.parameters()), values)

    def _optimizer(self) -> torch.optim.AdamW:
        embedding = self.model.thinker.model.embed_tokens.weight
        decayed = [
            weight for weight in self.parameters if weight.ndim >= 2 and weight is not embedding
        ]
        kept = [weight for weight in self.parameters if weight.ndim < 2 or weight is embedding]
        groups = [
            {"params": decayed, "weight_decay": self.recipe.weight_decay},
            {"params": kept, "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(
            groups, lr=self.recipe.peak_learning_rate, betas=(0.9, 0.98), fused=True
        )


def learning_rate(recipe: Recipe, step: int) -> float:
    """Linear warm-up, then a cosine down to the final share."""
    warm_up = min(1.0, (step + 1) / recipe.warm_up_steps)
    cosine = 0.5 * (1 + math.cos(math.pi * step / recipe.steps))
    floor = recipe.final_learning_rate_share
    return recipe.peak_learning_rate * warm_up * (floor + (1 - floor) * cosine)


def learnt_tokens(
    batch: Batch, audio_tokens: list[int]
) -> tuple[list[int], list[int], list[int], list[bool]]:
    """Of each token to learn: its clip, where it is predicted from, its id, is it a spare end."""
    rows, places, targets, is_trailing = [], [], [], []
    for row, (before, after, start) in enumerate(
        zip(batch.before_audio, batch.after_audio, batch.answer_starts, strict=True)
    ):
        offset = len(before) + audio_tokens[row] - 1
        for place in range(start, len(after)):
            rows.append(row)
            places.append(offset + place)
            targets.append(after[place])
            is_trailing.append(place >= len(after) - TRAILING_ENDS)
    return rows, places, targets, is_trailing


def ctc_loss(scores: Tensor, tokens: Tensor, digits: list[tuple[int, ...]]) -> Tensor:
    """Connectionist temporal classification of the digits; class 0 is the blank."""
    spoken = [row for row, said in enumerate(digits) if 0 < len(said) <= int(tokens[row])]
    if not spoken:
        return torch.zeros(())
    targets = torch.tensor([digit + 1 for row in spoken for digit in digits[row]])
    lengths = torch.tensor([len(digits[row]) for row in spoken])
    log_probabilities = scores[spoken].log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probabilities, targets, tokens[spoken], lengths, zero_infinity=True)


def train(run: Run, batches: Iterator[Batch], save_every: int, log_every: int) -> None:
    """Learn from the remaining batches; progress goes to the log and to OUT/log.jsonl."""
    recent: list[dict[str, float]] = []
    since = time.monotonic()
    for batch in batches:
        recent.append(run.learn(batch))
        if run.step % log_every == 0:
            means = {name: sum(row[name] for row in recent) / len(recent) for name in recent[0]}
            step_seconds = (time.monotonic() - since) / len(recent)
            _log(run, means | {"step_seconds": step_seconds})
            recent, since = [], time.monotonic()
        if run.step % save_every == 0 or run.step == run.recipe.steps:
            run.save()


def _log(run: Run, numbers: dict[str, float]) -> None:
    row: dict[str, Any] = {"step": run.step, **{key: round(n, 4) for key, n in numbers.items()}}
    with (run.folder / "log.jsonl").open("a") as log:
        log.write(json.dumps(row) + "\n")
    logger.info("%s", row)


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("recordings", type=Path, help="the Free Spoken Digit Dataset")
    parser.add_argument("synthesised", type=Path, help="what tools.tiny_model.synthesise wrote")
    parser.add_argument("out", type=Path, help="folder for the state and the checkpoint")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--threads", type=int, default=1, help="besides the one making batches")
    parser.add_argument("--save-every", type=int, default=1000)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(options.threads)
    run = Run(Recipe(steps=options.steps), options.out)
    run.resume()
    logger.info("%r", run)
    human = human_training_clips(options.recordings)
    synthetic = load_clips(options.synthesised / "espeak_train.npz")
    synthetic += 2 * load_clips(options.synthesised / "flite_train.npz")
    maker = BatchMaker(
        human, synthetic, run.processor.tokenizer, steps=run.recipe.steps, seed=run.recipe.seed
    )
    batches = DataLoader(
        maker,  # type: ignore[arg-type]
        batch_size=None,
        sampler=range(run.step, run.recipe.steps),
        num_workers=1,
        prefetch_factor=6,
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    train(run, iter(batches), options.save_every, log_every=100)


if __name__ == "__main__":
    main()
