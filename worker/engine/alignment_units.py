"""A text -> the units the forced aligner knows, by the tokenisers it was trained with.

Those of Japanese (nagisa: 270 MB, 2 s) and Korean (soynlp) come with qwen-asr and are imported with
the first text that needs them.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cached_property
from pathlib import Path
from typing import Any

from worker.text.alignment import kept, units_of

logger = logging.getLogger(__name__)

_KOREAN_WORDS = Path("inference", "assets", "korean_dict_jieba.dict")


class UnitFinder:
    """Units of a text in any language of the aligner's."""

    def units_of(self, text: str, language: str) -> list[str]:
        """In order; none where the language's tokeniser is not installed."""
        try:
            if language == "Japanese":
                return self._cleaned(self._nagisa.tagging(text).words)
            if language == "Korean":
                return self._cleaned(self._korean.tokenize(text))
        except ModuleNotFoundError as error:
            logger.warning("no times for %s: the package %s is missing", language, error.name)
            return []
        return units_of(text)

    def _cleaned(self, words: list[str]) -> list[str]:
        return [unit for unit in map(kept, words) if unit]

    @cached_property
    def _nagisa(self) -> Any:
        import nagisa

        return nagisa

    @cached_property
    def _korean(self) -> Any:
        from soynlp.tokenizer import LTokenizer

        lines = _package_folder().joinpath(_KOREAN_WORDS).read_text(encoding="utf-8").splitlines()
        return LTokenizer(scores={line.split()[0]: 1.0 for line in lines if line.strip()})


def _package_folder() -> Path:
    spec = importlib.util.find_spec("qwen_asr")
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError("No module named 'qwen_asr'", name="qwen_asr")
    return Path(spec.submodule_search_locations[0])
