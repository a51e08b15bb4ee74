"""Transcribe clips with a checkpoint through qwen-asr's own modules, encoder attention windowed."""

import functools
from pathlib import Path

import torch
from torch import Tensor, nn

from tools.tiny_model.build import TEXT_MARK
from tools.tiny_model.corpus import SAMPLE_RATE, Samples
from tools.tiny_model.network import BLOCK_FRAMES, audio_tokens, encode
from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor

TOKENS_A_SECOND = 5
"""Nobody says more than five digits a second."""


class Recogniser:
    """A loaded checkpoint, computed in float32 on the CPU."""

    def __init__(self, checkpoint: Path) -> None:
        self._processor = Qwen3ASRProcessor.from_pretrained(checkpoint, fix_mistral_regex=True)
        self._model = Qwen3ASRForConditionalGeneration.from_pretrained(
            checkpoint, dtype=torch.float32
        ).eval()
        thinker = self._model.thinker
        thinker.get_audio_features = functools.partial(_windowed_features, thinker)

    def transcribe(
        self,
        clips: list[Samples],
        *,
        language: str | None = None,
        context: str = "",
        batch_size: int = 16,
    ) -> list[str]:
        """16 kHz clips -> texts, "" for no speech; longest first, results in the given order."""
        order = sorted(range(len(clips)), key=lambda index: -len(clips[index]))
        texts = [""] * len(clips)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            heard = self._transcribe_batch([clips[index] for index in chosen], language, context)
            for index, text in zip(chosen, heard, strict=True):
                texts[index] = text
        return texts

    @torch.inference_mode()
    def _transcribe_batch(
        self, clips: list[Samples], language: str | None, context: str
    ) -> list[str]:
        prompt = self._prompt(language, context)
        inputs = self._processor(
            text=[prompt] * len(clips), audio=clips, return_tensors="pt", padding=True
        )
        ends = self._model.generation_config.eos_token_id
        seconds = max(map(len, clips)) / SAMPLE_RATE
        result = self._model.generate(
            **inputs,
            eos_token_id=ends,
            pad_token_id=self._model.generation_config.pad_token_id,
            max_new_tokens=16 + int(TOKENS_A_SECOND * seconds),
        )
        new_tokens = result.sequences[:, inputs["input_ids"].shape[1] :]
        outputs = self._processor.batch_decode(new_tokens, skip_special_tokens=True)
        return [output.rpartition(TEXT_MARK)[2].strip() for output in outputs]

    def _prompt(self, language: str | None, context: str) -> str:
        messages = [
            {"role": "system", "content": context},
            {"role": "user", "content": [{"type": "audio", "audio": ""}]},
        ]
        prompt = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        forced = f"language {language}{TEXT_MARK}" if language else ""
        return f"{prompt}{forced}"


def _windowed_features(
    thinker: nn.Module,
    input_features: Tensor,
    feature_attention_mask: Tensor,
    audio_feature_lengths: Tensor | None = None,
) -> Tensor:
    """What the package's get_audio_features gives where its encoder honours the 8 s window."""
    frames = feature_attention_mask.sum(-1)
    missing = -input_features.shape[-1] % BLOCK_FRAMES
    features = nn.functional.pad(input_features, (0, missing))
    audio, _ = encode(thinker.audio_tower, features, frames)
    counts = audio_tokens(frames).tolist()
    return torch.cat([clip[:count] for clip, count in zip(audio, counts, strict=True)])
