import asyncio
import socket
from pathlib import Path

import pytest

from gateway.healthcheck import answers
from tests.gateway.harness import running_server


@pytest.mark.parametrize("host", ["", "127.0.0.1", "0.0.0.0", "localhost"])
async def test_answering_gateway_is_healthy_wherever_it_listens(tmp_path: Path, host: str) -> None:
    async with running_server(tmp_path) as server:
        environment = {"HOST": host, "PORT": str(server.port)}

        assert await asyncio.to_thread(answers, environment)


def test_nobody_listening_is_unhealthy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

    assert not answers({"PORT": str(port)})


async def test_something_else_listening_is_unhealthy() -> None:
    async def answer_nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 500 Oh no\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer_nonsense, "127.0.0.1", 0) as listener:
        port = listener.sockets[0].getsockname()[1]

        assert not await asyncio.to_thread(answers, {"PORT": str(port)})


@pytest.mark.parametrize("port", ["eighty", "0", "70000", "-1"])
def test_unusable_port_is_unhealthy(port: str) -> None:
    assert not answers({"PORT": port})
