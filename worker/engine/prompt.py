"""The prompt as token ids, and the model's tokens as text.

Special tokens come only from here, as ids: what a caller writes stays text, whatever it looks like.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers
from tokenizers.models import BPE

from worker.engine.interface import EngineFailure

CONTEXT_TOKENS = 1024
"""Of longer context the beginning is kept: every chunk pays for its prefill again."""

_TEXT_MARK = "<asr_text>"

# Qwen2's pre-tokenisation, as any Qwen2/Qwen3 tokenizer.json carries it; used where there is none.
_QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _byte_alphabet() -> dict[str, int]:
    """The characters that stand for bytes in a byte-level vocabulary: printable ones of Latin-1 for
    themselves, those from U+0100 on for the others in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(0x100 + place): byte for place, byte in enumerate(others)}


_BYTE_ALPHABET = _byte_alphabet()


class Prompter:
    """Builds prompts and reads outputs with a checkpoint's tokenizer. Raises EngineFailure."""

    def __init__(self, folder: Path) -> None:
        self._tokenizer = read_tokenizer(folder)
        self._plain = without_added_tokens(self._tokenizer)
        self.audio_token_id = self._special("<|audio_pad|>")
        self.turn_end_id = self._special("<|im_end|>")
        self.padding_id = self._special("<|endoftext|>")
        self._text_mark_id = self._special(_TEXT_MARK)
        self._added_tokens = self._tokenizer.get_added_tokens_decoder()
        self._token_bytes: dict[int, bytes] = {}
        """Those asked for so far; bounded by the vocabulary."""
        turn_start = self._special("<|im_start|>")
        self._turn_start = turn_start
        self._before_audio = [
            self.turn_end_id,
            *self._ids("\n"),
            turn_start,
            *self._ids("user\n"),
            self._special("<|audio_start|>"),
        ]
        self._after_audio = [
            self._special("<|audio_end|>"),
            self.turn_end_id,
            *self._ids("\n"),
            turn_start,
        ]

    def token_ids(self, *, audio_tokens: int, context: str, language: str | None) -> list[int]:
        """One system turn with the context, one user turn with the audio, the answer begun."""
        return [
            self._turn_start,
            *self._system_ids(context),
            *self._before_audio,
            *[self.audio_token_id] * audio_tokens,
            *self._after_audio,
            *self._answer_ids(language),
        ]

    def detokenize(self, token_ids: Sequence[int]) -> str:
        """Special tokens are left out; <asr_text> stays, for it parts preamble and text."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        """What a token adds to the UTF-8 of detokenize(); nothing for a special one."""
        known = self._token_bytes.get(token_id)
        if known is None:
            known = self._token_bytes[token_id] = self._bytes_of(token_id)
        return known

    def _bytes_of(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        added = self._added_tokens.get(token_id)
        if token is None or (added is not None and added.special):
            return b""
        if added is not None:
            return str(added.content).encode("utf-8")
        return bytes(_BYTE_ALPHABET[character] for character in token)

    def _system_ids(self, context: str) -> list[int]:
        # Tokenised together, for a context that begins with a space joins the line break.
        heading = len(self._ids("system\n"))
        return self._ids("system\n" + _encodable(context))[: heading + CONTEXT_TOKENS]

    def _answer_ids(self, language: str | None) -> list[int]:
        if language is None:
            return self._ids("assistant\n")
        return [*self._ids(f"assistant\nlanguage {_encodable(language)}"), self._text_mark_id]

    def _ids(self, text: str) -> list[int]:
        return list(self._plain.encode(text, add_special_tokens=False).ids)

    def _special(self, token: str) -> int:
        token_id = self._tokenizer.token_to_id(token)
        if token_id is None:
            raise EngineFailure(
                "unsupported_model",
                "The checkpoint's tokenizer lacks the tokens of Qwen3-ASR. Set MODEL_ID to a"
                " complete Qwen3-ASR checkpoint.",
            )
        return int(token_id)


def read_tokenizer(folder: Path) -> Tokenizer:
    """A checkpoint's, special tokens included. Raises EngineFailure: model_corrupt."""
    try:
        if (folder / "tokenizer.json").is_file():
            return Tokenizer.from_file(str(folder / "tokenizer.json"))
        return _assembled(folder)
    except EngineFailure:
        raise
    except Exception as error:  # the tokenizers library raises bare Exceptions
        raise EngineFailure(
            "model_corrupt",
            "The checkpoint's tokenizer files are damaged. Delete the checkpoint and let it be"
            " downloaded again, or restore the folder.",
        ) from error


def _assembled(folder: Path) -> Tokenizer:
    """The tokenizer of a checkpoint that carries only vocab.json, merges.txt and its config."""
    tokenizer = Tokenizer(BPE.from_file(str(folder / "vocab.json"), str(folder / "merges.txt")))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_QWEN2_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    _add_tokens(tokenizer, config["added_tokens_decoder"])
    return tokenizer


def _add_tokens(tokenizer: Tokenizer, added: dict[str, dict[str, object]]) -> None:
    for token_id, fields in sorted(added.items(), key=lambda item: int(item[0])):
        token = AddedToken(
            str(fields["content"]),
            lstrip=bool(fields.get("lstrip")),
            rstrip=bool(fields.get("rstrip")),
            single_word=bool(fields.get("single_word")),
            normalized=bool(fields.get("normalized")),
            special=bool(fields.get("special")),
        )
        tokenizer.add_tokens([token])
        if tokenizer.token_to_id(str(fields["content"])) != int(token_id):
            raise EngineFailure(
                "model_corrupt",
                "The checkpoint's vocab.json and tokenizer_config.json do not belong together."
                " Delete the checkpoint and let it be downloaded again.",
            )


def without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    """The same, to which special tokens are plain text."""
    plain = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        plain.normalizer = tokenizer.normalizer
    plain.pre_tokenizer = tokenizer.pre_tokenizer
    return plain


def _encodable(text: str) -> str:
    """Lone surrogates, which no UTF-8 can hold, become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")
