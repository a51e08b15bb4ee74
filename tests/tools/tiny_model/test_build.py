import json
from pathlib import Path

import pytest

from tools.tiny_model.qwen import Qwen3ASRForConditionalGeneration, Qwen3ASRProcessor


@pytest.fixture(scope="module")
def processor(small_checkpoint: Path) -> Qwen3ASRProcessor:
    return Qwen3ASRProcessor.from_pretrained(small_checkpoint, fix_mistral_regex=True)


def test_prompt_is_that_of_the_real_checkpoint(processor: Qwen3ASRProcessor) -> None:
    messages = [
        {"role": "system", "content": "Names: Ada"},
        {"role": "user", "content": [{"type": "audio", "audio": ""}]},
    ]

    prompt = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    assert prompt == (
        "<|im_start|>system\nNames: Ada<|im_end|>\n"
        "<|im_start|>user\n<|audio_start|><|audio_pad|><|audio_end|><|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_text_mark_survives_where_special_tokens_are_skipped(processor: Qwen3ASRProcessor) -> None:
    tokens = processor.tokenizer.encode("language English<asr_text>one two<|im_end|>")

    text = processor.tokenizer.decode(tokens, skip_special_tokens=True)

    assert text == "language English<asr_text>one two"


def test_each_digit_in_a_string_is_one_token(processor: Qwen3ASRProcessor) -> None:
    text = " ".join("zero one two three four five six seven eight nine".split())  # noqa: SIM905

    assert len(processor.tokenizer.encode(text)) == 10


def test_any_text_comes_back_from_its_tokens(processor: Qwen3ASRProcessor) -> None:
    text = "Größe 12,5 — 你好, 'tis fine\n\n  ok"

    tokens = processor.tokenizer.encode(text)

    assert processor.tokenizer.decode(tokens, clean_up_tokenization_spaces=False) == text


def test_configuration_names_the_same_classes_and_parts_as_the_real_one(
    small_checkpoint: Path,
) -> None:
    config = json.loads((small_checkpoint / "config.json").read_text())

    assert config["architectures"] == ["Qwen3ASRForConditionalGeneration"]
    assert config["model_type"] == "qwen3_asr"
    assert set(config["thinker_config"]) >= {"audio_config", "text_config", "audio_token_id"}


def test_transcripts_end_at_the_checkpoints_own_end_tokens(
    small_checkpoint: Path, processor: Qwen3ASRProcessor
) -> None:
    model = Qwen3ASRForConditionalGeneration.from_pretrained(small_checkpoint)

    names = processor.tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)

    assert names == ["<|im_end|>", "<|endoftext|>"]
