from pathlib import Path

import openai
import pytest

from tests.gateway.harness import field_part, file_part, running_server


@pytest.mark.parametrize("path", ["/v1/audio/translations", "/audio/translations"])
async def test_translation_is_refused_in_the_usual_shape(tmp_path: Path, path: str) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(field_part("model", "whisper-1"), file_part(), path=path)

        assert answer.status == 400
        assert (answer.error["code"], answer.error["type"]) == (
            "unsupported",
            "invalid_request_error",
        )
        assert "/v1/audio/transcriptions" in answer.error["message"]
        assert server.client.requests == []


async def test_refusal_reaches_a_client_that_sends_everything_first(tmp_path: Path) -> None:
    async with (
        running_server(tmp_path) as server,
        openai.AsyncOpenAI(api_key="k", base_url=server.base_url, max_retries=0) as client,
    ):
        with (
            pytest.warns(DeprecationWarning, match="deprecated"),
            pytest.raises(openai.BadRequestError) as caught,
        ):
            await client.audio.translations.create(file=bytes(5_000_000), model="whisper-1")

    assert caught.value.code == "unsupported"


async def test_other_methods_are_told_which_one_there_is(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.get("/v1/audio/translations")

    assert (answer.status, answer.headers["allow"]) == (405, "POST")
