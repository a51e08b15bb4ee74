"""A fresh checkpoint folder: small tokenizer, chat template, processor and random weights.

Everything is made with qwen-asr's own classes, so what loads the real model loads this one. The
vocabulary is private (about 490 tokens): the real table of 151,936 rows would alone be 44 MB.
"""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import GenerationConfig, Qwen2TokenizerFast, WhisperFeatureExtractor

from tools.tiny_model.corpus import DIGIT_WORDS
from tools.tiny_model.qwen import (
    Qwen3ASRConfig,
    Qwen3ASRForConditionalGeneration,
    Qwen3ASRProcessor,
)

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|audio_start|>",
    "<|audio_end|>",
    "<|audio_pad|>",
]
TEXT_MARK = "<asr_text>"
"""Added but not special: it must survive ``skip_special_tokens``."""

LANGUAGES = """
    Chinese English Cantonese Arabic German French Spanish Portuguese Indonesian Italian Korean
    Russian Thai Vietnamese Japanese Turkish Hindi Malay Dutch Swedish Danish Finnish Polish
    Czech Filipino Persian Greek Romanian Hungarian Macedonian None
""".split()  # noqa: SIM905
OTHER_WORDS = """
    oh double triple hundred thousand point and yes no stop go left right up down on off the a
    of to in is it that was for you he she we they this with be are at from have not hello world
    test speech text audio
""".split()  # noqa: SIM905

QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pre-tokenizer's pattern in the real checkpoint's tokenizer.json."""

CHAT_TEMPLATE = (
    "{% set ns = namespace(system='') %}"
    "{% for m in messages %}{% if m['role'] == 'system' %}"
    "{% if m['content'] is string %}{% set ns.system = m['content'] %}"
    "{% else %}{% for c in m['content'] %}{% if c['text'] is defined %}"
    "{% set ns.system = ns.system + c['text'] %}{% endif %}{% endfor %}{% endif %}"
    "{% endif %}{% endfor %}"
    "<|im_start|>system\n{{ ns.system }}<|im_end|>\n"
    "<|im_start|>user\n"
    "{% for m in messages %}{% if m['role'] == 'user' and m['content'] is not string %}"
    "{% for c in m['content'] %}{% if c['type'] == 'audio' %}"
    "<|audio_start|><|audio_pad|><|audio_end|>{% endif %}{% endfor %}{% endif %}{% endfor %}"
    "<|im_end|>\n"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of the network; the rest is fixed by the architecture."""

    width: int = 144
    encoder_layers: int = 4
    encoder_heads: int = 4
    conv_channels: int = 32
    decoder_layers: int = 4
    decoder_heads: int = 4
    decoder_kv_heads: int = 2
    decoder_head_size: int = 32


def build_checkpoint(folder: Path, shape: Shape, seed: int) -> None:
    """Write a loadable checkpoint with untrained weights."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = build_tokenizer(folder)
    feature_extractor = WhisperFeatureExtractor(
        feature_size=128, sampling_rate=16_000, hop_length=160, chunk_length=30, n_fft=400,
        padding_value=0.0, dither=0.0, return_attention_mask=True,
    )  # fmt: skip
    Qwen3ASRProcessor(
        feature_extractor=feature_extractor, tokenizer=tokenizer, chat_template=CHAT_TEMPLATE
    ).save_pretrained(folder)
    model = Qwen3ASRForConditionalGeneration(model_config(tokenizer, shape))
    model.generation_config = GenerationConfig(
        eos_token_id=end_tokens(tokenizer),
        pad_token_id=tokenizer.convert_tokens_to_ids("<|endoftext|>"),
        do_sample=False,
    )
    initialise(model, seed)
    model.save_pretrained(folder, safe_serialization=True)


def end_tokens(tokenizer: Qwen2TokenizerFast) -> list[int]:
    """Ids that end a transcript."""
    return [tokenizer.convert_tokens_to_ids(name) for name in ("<|im_end|>", "<|endoftext|>")]


def build_tokenizer(folder: Path) -> Qwen2TokenizerFast:
    """Train a byte-level BPE of 480 tokens and add the special tokens; files go to ``folder``."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_SPLIT), behavior="isolated", invert=False),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480,
        min_frequency=20,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_tokenizer_corpus(), trainer)
    bpe.model.save(str(folder))
    tokenizer = Qwen2TokenizerFast(
        vocab_file=str(folder / "vocab.json"),
        merges_file=str(folder / "merges.txt"),
        unk_token=None,
        bos_token=None,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=SPECIAL_TOKENS[1:],
        # Qwen3ASRProcessor reads these three as attributes of the tokenizer.
        extra_special_tokens={
            "audio_token": "<|audio_pad|>",
            "audio_bos_token": "<|audio_start|>",
            "audio_eos_token": "<|audio_end|>",
        },
        model_max_length=65_536,
    )
    for name in SPECIAL_TOKENS:
        tokenizer.add_tokens(
            [AddedToken(name, special=True, normalized=False)], special_tokens=True
        )
    tokenizer.add_tokens([AddedToken(TEXT_MARK, special=False, normalized=False)])
    return tokenizer


def _tokenizer_corpus() -> list[str]:
    rng = random.Random(0)
    lines = [" ".join(rng.choices(DIGIT_WORDS, k=rng.randint(1, 8))) for _ in range(4000)]
    lines += [" ".join(rng.choices(DIGIT_WORDS + OTHER_WORDS, k=6)) for _ in range(400)]
    lines += [f"language {language}" for language in [*LANGUAGES, "English"]] * 60
    return lines + ["system\n", "user\n", "assistant\n"] * 200


def model_config(tokenizer: Qwen2TokenizerFast, shape: Shape) -> Qwen3ASRConfig:
    """The architecture's configuration at this shape."""
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL_TOKENS}
    ends, pad = end_tokens(tokenizer), ids["<|endoftext|>"]
    thinker = {
        "audio_config": _audio_config(shape),
        "text_config": _text_config(shape, vocabulary=len(tokenizer)),
        "audio_token_id": ids["<|audio_pad|>"],
        "audio_start_token_id": ids["<|audio_start|>"],
        "audio_end_token_id": ids["<|audio_end|>"],
        "user_token_id": tokenizer.convert_tokens_to_ids("user"),
        "tie_word_embeddings": True,
        "pad_token_id": None,
        "eos_token_id": ends,
    }
    return Qwen3ASRConfig(
        thinker_config=thinker,
        support_languages=["English"],
        eos_token_id=ends,
        pad_token_id=pad,
        tie_word_embeddings=True,
    )


def _audio_config(shape: Shape) -> dict[str, object]:
    return {
        "num_mel_bins": 128,
        "encoder_layers": shape.encoder_layers,
        "encoder_attention_heads": shape.encoder_heads,
        "encoder_ffn_dim": 4 * shape.width,
        "d_model": shape.width,
        "dropout": 0.0,
        "attention_dropout": 0.0,
        "activation_function": "gelu",
        "activation_dropout": 0.0,
        "scale_embedding": False,
        "max_source_positions": 1500,
        # 100 mel frames -> 13 tokens is fixed in qwen-asr's processor and model.
        "n_window": 50,
        "n_window_infer": 800,
        "conv_chunksize": 500,
        "downsample_hidden_size": shape.conv_channels,
        "output_dim": shape.width,
    }


def _text_config(shape: Shape, vocabulary: int) -> dict[str, object]:
    sections = [shape.decoder_head_size // 4] + [shape.decoder_head_size // 8] * 2
    return {
        "vocab_size": -(-vocabulary // 16) * 16,
        "hidden_size": shape.width,
        "intermediate_size": 3 * shape.width,
        "num_hidden_layers": shape.decoder_layers,
        "num_attention_heads": shape.decoder_heads,
        "num_key_value_heads": shape.decoder_kv_heads,
        "head_dim": shape.decoder_head_size,
        "hidden_act": "silu",
        "max_position_embeddings": 65_536,
        "rms_norm_eps": 1e-6,
        "use_cache": True,
        "tie_word_embeddings": True,
        "rope_theta": 1_000_000.0,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "rope_scaling": {
            "rope_type": "default",
            "mrope_interleaved": True,
            "interleaved": True,
            "mrope_section": sections,
        },
    }


def initialise(model: nn.Module, seed: int) -> None:
    """Fan-in initialisation in place.

    The configuration's initializer_range of 0.02 suits wide networks: here the log-mel signal would
    leave the three narrow convolutions 500 times weaker than the position sinusoids beside it.
    """
    torch.manual_seed(seed)
    thinker = model.thinker
    layers = len(thinker.audio_tower.layers) + len(thinker.model.layers)
    for name, module in thinker.named_modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Linear) and name != "lm_head":
            closes_residual = name.endswith(("out_proj", "o_proj", "fc2", "down_proj"))
            scale = layers**-0.5 if closes_residual else 1.0
            nn.init.normal_(module.weight, 0.0, scale * module.in_features**-0.5)
        else:
            continue
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    nn.init.normal_(thinker.model.embed_tokens.weight, 0.0, 0.04)
