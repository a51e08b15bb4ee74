import pytest
from starlette.datastructures import Headers

from gateway.auth import presented_key
from gateway.websockets.handshake import accept_value, chosen_subprotocol


def test_answer_to_a_key_is_that_of_the_standard() -> None:
    # RFC 6455, 1.3
    assert accept_value("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_realtime_is_chosen_and_nothing_else() -> None:
    assert chosen_subprotocol(["openai-insecure-api-key.sk-1", "realtime"]) == "realtime"
    assert chosen_subprotocol(["openai-insecure-api-key.sk-1"]) is None
    assert chosen_subprotocol([]) is None


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({"sec-websocket-protocol": "realtime, openai-insecure-api-key.sk-1"}, "sk-1"),
        ({"sec-websocket-protocol": "openai-insecure-api-key.sk-1,realtime"}, "sk-1"),
        ({"sec-websocket-protocol": "openai-insecure-api-key."}, None),
        ({"sec-websocket-protocol": "realtime"}, None),
        (
            {
                "authorization": "Bearer header",
                "sec-websocket-protocol": "openai-insecure-api-key.sk-1",
            },
            "header",
        ),
    ],
)
def test_key_may_come_among_the_subprotocols(headers: dict[str, str], key: str | None) -> None:
    assert presented_key(Headers(headers)) == key
