"""One question to a language model with OpenAI's chat completions, and what its errors mean."""

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.errors import ApiError, Unavailable
from gateway.outbound.client import OutboundFailed, OutboundRequest
from gateway.outbound.messages import Answer, Reason
from gateway.settings import Secret
from gateway.telemetry import event

logger = logging.getLogger(__name__)

PAUSES = (1.0, 4.0)
"""Seconds before the second and the third try, where the model does not name them."""
LONGEST_PAUSE = 30.0
"""Where it names more, the caller is told instead."""
WORTH_ANOTHER_TRY = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 520, 522, 524, 529))
LASTING = frozenset((Reason.BAD_ADDRESS, Reason.BAD_ENVIRONMENT, Reason.CERTIFICATE,
                     Reason.TOO_LARGE, Reason.REDIRECTED))  # fmt: skip
"""What another try would meet again."""


class TranslationFailed(ApiError):
    """The language model was no help."""

    status = 502
    code = "translation_failed"

    def __init__(self, message: str, *, is_lasting: bool = False) -> None:
        super().__init__(message, headers={"x-should-retry": "false"} if is_lasting else None)
        self.is_lasting = is_lasting
        """Whether another try would meet the same."""


class ModelAnswered(Exception):
    """What the language model said instead of a translation; for the operator's log."""


class Caller(Protocol):
    """What of Outbound is used here."""

    def send(self, request: OutboundRequest) -> Awaitable[Answer]: ...


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """Which model to ask, and where."""

    base_url: str
    model: str
    key: Secret | None = None
    timeout: float = 300.0
    """Seconds for one answer."""


class Chat:
    """Asks one language model."""

    def __init__(
        self,
        model: LanguageModel,
        outbound: Caller,
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._model = model
        self._outbound = outbound
        self._sleep = sleep

    async def ask(self, messages: Sequence[dict[str, str]]) -> str:
        """The text of its answer. Tries again where that may help; raises ApiError in the end."""
        request = self._request(messages)
        for pause in PAUSES:
            outcome = await self._try(request)
            if not isinstance(outcome, _Setback):
                return outcome
            wait = outcome.retry_after or pause
            if wait > LONGEST_PAUSE:
                raise outcome.error from outcome.cause
            logger.warning(event("language model asked again", {"cause": outcome.cause}))
            await self._sleep(wait)
        outcome = await self._try(request)
        if isinstance(outcome, _Setback):
            raise outcome.error from outcome.cause
        return outcome

    def _request(self, messages: Sequence[dict[str, str]]) -> OutboundRequest:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        if self._model.key is not None:
            headers["authorization"] = f"Bearer {self._model.key.value}"
        asked = {"model": self._model.model, "messages": list(messages)}
        return OutboundRequest(
            "POST",
            f"{self._model.base_url}/chat/completions",
            timeout=self._model.timeout,
            headers=headers,
            body=json.dumps(asked, ensure_ascii=False).encode("utf-8", "replace"),
        )

    async def _try(self, request: OutboundRequest) -> "str | _Setback":
        """Raises ApiError where another try cannot help."""
        try:
            answer = await self._outbound.send(request)
        except OutboundFailed as failure:
            return _unanswered(failure)
        if answer.status != 200:
            return _refused(answer)
        return _content(answer)


@dataclass(frozen=True, slots=True)
class _Setback:
    """Another try may help; if none is left, `error` is what the caller gets."""

    error: ApiError
    cause: Exception
    retry_after: float | None = None


def _unanswered(failure: OutboundFailed) -> _Setback:
    if failure.reason in LASTING:
        raise TranslationFailed(
            "The language model that translates cannot be asked as this server is set up. Its log "
            "tells the operator why.",
            is_lasting=True,
        ) from failure
    if failure.reason is Reason.TIMEOUT:
        message = "The language model that translates did not answer in time. Try again later."
        # Another try would take as long again, while the caller waits.
        raise TranslationFailed(message) from failure
    message = "The language model that translates cannot be reached. Try again later."
    return _Setback(TranslationFailed(message), failure)


def _refused(answer: Answer) -> _Setback:
    kind = _error_code(answer.body)
    cause = ModelAnswered(f"the language model answered {answer.status} {kind}".rstrip())
    if answer.status in (401, 403):
        raise _operators_fault("refused this server's key", "OPENAI_API_KEY") from cause
    if answer.status == 404:
        told = "is not known at its address"
        raise _operators_fault(told, "OPENAI_BASE_URL and TRANSLATE_MODEL") from cause
    if answer.status == 402 or kind == "insufficient_quota":
        raise _operators_fault("has no credit left", "the account at OPENAI_BASE_URL") from cause
    if answer.status not in WORTH_ANOTHER_TRY:
        raise TranslationFailed(
            "The language model that translates refused the request. The server's log tells the "
            "operator its status.",
            is_lasting=True,
        ) from cause
    retry_after = _seconds(answer.headers.get("retry-after", ""))
    if answer.status == 429:
        message = "The language model that translates is asked too often. Try again later."
        busy = Unavailable(message, code="translation_busy", retry_after=retry_after)
        return _Setback(busy, cause, retry_after)
    message = "The language model that translates failed. Try again later."
    return _Setback(TranslationFailed(message), cause, retry_after)


def _operators_fault(what: str, where: str) -> TranslationFailed:
    return TranslationFailed(
        f"The language model that translates {what}. The server's operator has to look at {where}.",
        is_lasting=True,
    )


def _content(answer: Answer) -> str:
    try:
        content = json.loads(answer.body)["choices"][0]["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        content = False
    if isinstance(content, str):
        return content
    if content is None:
        return ""  # a refusal, or nothing but thoughts: to be asked again like wrong numbers
    raise TranslationFailed(
        "What answers in place of the language model is none: OPENAI_BASE_URL should lead to "
        "OpenAI's chat completions.",
        is_lasting=True,
    ) from ModelAnswered("the answer has no choices[0].message.content")


def _error_code(body: bytes) -> str:
    """The error's code, where it is one word; other words may quote the key or the text."""
    try:
        error = json.loads(body)["error"]
        code = error.get("code") or error.get("type")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return code if isinstance(code, str) and re.fullmatch(r"[a-z_]{1,60}", code) else ""


def _seconds(text: str) -> float | None:
    """Of a Retry-After that counts seconds; a date is as good as none."""
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,3})?", text.strip()) else None
