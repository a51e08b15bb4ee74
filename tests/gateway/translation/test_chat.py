import json
from collections.abc import Sequence

import pytest

from gateway.errors import ApiError
from gateway.outbound.client import OutboundFailed, OutboundRequest
from gateway.outbound.messages import Answer, Reason
from gateway.settings import Secret
from gateway.translation.chat import PAUSES, Chat, LanguageModel

QUESTION = [{"role": "user", "content": "eins"}]


def said(content: object, status: int = 200) -> Answer:
    body = {"choices": [{"message": {"role": "assistant", "content": content}}]}
    return Answer(1, status, {}, json.dumps(body).encode())


def refusal(status: int, code: str | None = None, **headers: str) -> Answer:
    body = json.dumps({"error": {"message": "your key sk-1 said: eins", "code": code}}).encode()
    return Answer(1, status, {name.replace("_", "-"): headers[name] for name in headers}, body)


class FakeOutbound:
    """Answers by script; the last entry again and again."""

    def __init__(self, *script: Answer | OutboundFailed) -> None:
        self.script: Sequence[Answer | OutboundFailed] = script
        self.requests: list[OutboundRequest] = []
        self.pauses: list[float] = []

    async def send(self, request: OutboundRequest) -> Answer:
        outcome = self.script[min(len(self.requests), len(self.script) - 1)]
        self.requests.append(request)
        if isinstance(outcome, OutboundFailed):
            raise outcome
        return outcome

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)

    def chat(self, key: Secret | None = None) -> Chat:
        model = LanguageModel("http://llm/v1", "gpt-x", key, timeout=7.0)
        return Chat(model, self, sleep=self.sleep)


async def failed(outbound: FakeOutbound) -> ApiError:
    with pytest.raises(ApiError) as caught:
        await outbound.chat().ask(QUESTION)
    told = f"{caught.value.message} {caught.value.__cause__}"
    assert "sk-1" not in told
    assert "eins" not in told
    return caught.value


async def test_question_is_a_chat_completion_with_the_key_in_its_header() -> None:
    outbound = FakeOutbound(said("one"))

    assert await outbound.chat(Secret("sk-1")).ask(QUESTION) == "one"

    (request,) = outbound.requests
    assert (request.method, request.url) == ("POST", "http://llm/v1/chat/completions")
    assert request.timeout == 7.0
    assert request.headers["authorization"] == "Bearer sk-1"
    assert json.loads(request.body) == {"model": "gpt-x", "messages": QUESTION}


async def test_model_without_a_key_is_asked_without() -> None:
    outbound = FakeOutbound(said("one"))
    await outbound.chat().ask(QUESTION)

    assert "authorization" not in outbound.requests[0].headers


@pytest.mark.parametrize(
    "setback",
    [
        refusal(500),
        refusal(503),
        refusal(429),
        OutboundFailed(Reason.UNREACHABLE, "refused"),
        OutboundFailed(Reason.BROKEN_OFF, "ended"),
        OutboundFailed(Reason.CHILD_ENDED, "ended"),
    ],
)
async def test_passing_trouble_is_waited_for(setback: Answer | OutboundFailed) -> None:
    outbound = FakeOutbound(setback, setback, said("one"))

    assert await outbound.chat().ask(QUESTION) == "one"
    assert outbound.pauses == list(PAUSES)


async def test_model_that_names_a_wait_is_given_it() -> None:
    outbound = FakeOutbound(refusal(429, retry_after="7"), said("one"))

    assert await outbound.chat().ask(QUESTION) == "one"
    assert outbound.pauses == [7.0]


async def test_too_long_a_wait_is_left_to_the_caller() -> None:
    outbound = FakeOutbound(refusal(429, retry_after="45"))

    error = await failed(outbound)

    assert (error.status, error.code) == (503, "translation_busy")
    assert error.headers["retry-after"] == "45"
    assert outbound.pauses == []


async def test_busy_model_is_told_as_busy_in_the_end() -> None:
    error = await failed(FakeOutbound(refusal(429)))

    assert (error.status, error.code) == (503, "translation_busy")
    assert "retry-after" in error.headers


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        (refusal(401), "OPENAI_API_KEY"),
        (refusal(403), "OPENAI_API_KEY"),
        (refusal(404, "model_not_found"), "TRANSLATE_MODEL"),
        (refusal(402), "credit"),
        (refusal(429, "insufficient_quota"), "credit"),
        (refusal(400), "refused"),
        (Answer(1, 200, {}, b"<html>"), "OPENAI_BASE_URL"),
        (Answer(1, 200, {}, b'{"choices": []}'), "OPENAI_BASE_URL"),
        (said(["parts"]), "OPENAI_BASE_URL"),
        (OutboundFailed(Reason.CERTIFICATE, "self-signed"), "set up"),
        (OutboundFailed(Reason.BAD_ADDRESS, "ftp"), "set up"),
        (OutboundFailed(Reason.REDIRECTED, "elsewhere"), "set up"),
    ],
)
async def test_what_an_operator_has_to_mend_is_asked_once_and_not_worth_a_retry(
    outcome: Answer | OutboundFailed, word: str
) -> None:
    outbound = FakeOutbound(outcome)

    error = await failed(outbound)

    assert (error.status, error.code) == (502, "translation_failed")
    assert word in error.message
    assert error.headers == {"x-should-retry": "false"}
    assert error.__cause__ is not None, "the log tells the operator"
    assert len(outbound.requests) == 1


@pytest.mark.parametrize(
    "outcome",
    [refusal(500), OutboundFailed(Reason.UNREACHABLE, "refused")],
)
async def test_lasting_trouble_is_a_failure_after_three_tries(
    outcome: Answer | OutboundFailed,
) -> None:
    outbound = FakeOutbound(outcome)

    error = await failed(outbound)

    assert (error.status, error.code) == (502, "translation_failed")
    assert len(outbound.requests) == 3


async def test_silent_model_is_not_waited_for_twice() -> None:
    outbound = FakeOutbound(OutboundFailed(Reason.TIMEOUT, "no answer within 7 s"))

    error = await failed(outbound)

    assert "in time" in error.message
    assert len(outbound.requests) == 1


async def test_answer_without_words_is_empty() -> None:
    assert await FakeOutbound(said(None)).chat().ask(QUESTION) == ""
