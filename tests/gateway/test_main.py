"""The whole gateway in a process of its own: start, signals, end."""

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from gateway.main import worker_environment
from gateway.settings import Settings
from tests.gateway.harness import (
    DEADLINE,
    Answer,
    file_part,
    read_answer,
    request,
    upload_request,
)


@dataclass
class GatewayProcess:
    """A gateway without workers."""

    process: Process
    port: int = 0
    log: list[str] = field(default_factory=list)

    async def until(self, pattern: str) -> "re.Match[str]":
        """The match in the first line of the log, from here on, that has one."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log.append(line.decode())
            if match := re.search(pattern, self.log[-1]):
                return match
        raise AssertionError(f"{pattern!r} is not in the log:\n" + "".join(self.log))

    async def get(self, path: str) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(request("GET", path))
        answer = await read_answer(reader)
        writer.close()
        return answer

    async def end(self) -> int:
        """The exit status, once the process is gone."""
        assert self.process.stderr is not None
        self.log += (await self.process.stderr.read()).decode().splitlines(keepends=True)
        return await self.process.wait()


@asynccontextmanager
async def starting_gateway(folder: Path, **settings: str) -> AsyncIterator[GatewayProcess]:
    async with asyncio.timeout(DEADLINE):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gateway", "gateway"),
            env={**os.environ, "DATA_DIR": str(folder), "PORT": "0", **settings},
            stderr=PIPE,
        )
        try:
            yield GatewayProcess(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


@asynccontextmanager
async def running_gateway(folder: Path, **settings: str) -> AsyncIterator[GatewayProcess]:
    async with starting_gateway(folder, **settings) as gateway:
        gateway.port = int((await gateway.until(r"gateway listening .*port=(\d+)"))[1])
        yield gateway


async def test_gateway_without_workers_lives_is_not_ready_and_ends_with_0(
    short_folder: Path,
) -> None:
    async with running_gateway(short_folder) as gateway:
        live, ready = await gateway.get("/livez"), await gateway.get("/readyz")
        gateway.process.send_signal(signal.SIGTERM)

        assert (live.status, ready.status) == (200, 503)
        assert await gateway.end() == 0
        assert "gateway stopped" in gateway.log[-1]


async def test_process_is_named_for_what_it_is(short_folder: Path) -> None:
    async with running_gateway(short_folder) as gateway:
        title = _command_line(gateway.process.pid)

    assert title.startswith(b"qwen3-asr: gateway")


def _command_line(process_id: int) -> bytes:
    return Path(f"/proc/{process_id}/cmdline").read_bytes()


async def test_second_gateway_on_a_data_folder_ends_and_the_first_goes_on(
    short_folder: Path,
) -> None:
    async with running_gateway(short_folder) as first:
        async with starting_gateway(short_folder) as second:
            assert await second.end() == 1
            assert f"process id {first.process.pid}" in "".join(second.log)
            assert "Traceback" not in "".join(second.log)

        assert (await first.get("/livez")).status == 200


async def test_data_folder_that_cannot_be_had_is_told_in_words(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.touch()

    async with starting_gateway(blocker / "data") as gateway:
        assert await gateway.end() == 1
        assert "DATA_DIR" in gateway.log[-1]
        assert "Traceback" not in "".join(gateway.log)


async def test_anything_in_the_way_in_the_data_folder_is_told_in_words(
    short_folder: Path,
) -> None:
    for name in ("run", "spool"):
        folder = short_folder / name
        folder.mkdir()
        (folder / name).touch()
        async with starting_gateway(folder) as gateway:
            assert await gateway.end() == 1
            assert f"{folder / name} cannot be used" in gateway.log[-1]
            assert "DATA_DIR" in gateway.log[-1]
            assert "Traceback" not in "".join(gateway.log)


async def test_host_that_no_name_can_be_is_told_in_words(short_folder: Path) -> None:
    host = "a" * 64 + ".example"
    async with starting_gateway(short_folder, HOST=host) as gateway:
        assert await gateway.end() == 1
        assert f"HOST {host}" in gateway.log[-1]
        assert "Traceback" not in "".join(gateway.log)


async def test_port_in_use_is_told_in_words(short_folder: Path) -> None:
    async with (
        running_gateway(short_folder) as first,
        starting_gateway(short_folder / "2", PORT=str(first.port)) as second,
    ):
        assert await second.end() == 1
        assert f"PORT {first.port}" in "".join(second.log)
        assert "Traceback" not in "".join(second.log)


async def test_interrupted_upload_is_told_and_its_file_is_gone(short_folder: Path) -> None:
    async with running_gateway(short_folder, SHUTDOWN_TIMEOUT="0") as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        whole = upload_request(file_part(bytes(1_000_000)))
        writer.write(whole[:-1000])
        await writer.drain()
        await _until_spooled(short_folder, 900_000)
        gateway.process.send_signal(signal.SIGTERM)
        answer = await read_answer(reader)

        assert answer.status == 503
        assert answer.error["code"] == "shutting_down"
        assert await gateway.end() == 0
        assert _spooled(short_folder) == []
        writer.close()


async def _until_spooled(folder: Path, size: int) -> None:
    while sum(path.stat().st_size for path in _spooled(folder)) < size:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


def _spooled(folder: Path) -> list[Path]:
    """Uploads on the spool; the file by which workers recognise the spool is none."""
    return [path for path in folder.glob("spool/*/*") if path.name != "probe"]


async def test_second_signal_ends_the_wait_for_work(short_folder: Path) -> None:
    settings = {"WORKER_START_TIMEOUT": "600", "SHUTDOWN_TIMEOUT": "600"}
    async with running_gateway(short_folder, **settings) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(upload_request(file_part()))
        await _until_spooled(short_folder, 1)
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.until("gateway stopping")
        gateway.process.send_signal(signal.SIGTERM)
        answer = await read_answer(reader)

        assert answer.error["code"] == "shutting_down"
        assert await gateway.end() == 0
        writer.close()


async def test_uploads_of_a_killed_gateway_are_swept_at_the_next_start(short_folder: Path) -> None:
    async with running_gateway(short_folder) as killed:
        _, writer = await asyncio.open_connection("127.0.0.1", killed.port)
        writer.write(upload_request(file_part(bytes(100_000)))[:-10])
        await _until_spooled(short_folder, 50_000)
        killed.process.kill()
        await killed.process.wait()
        writer.close()
    left = _spooled(short_folder)

    async with running_gateway(short_folder) as gateway:
        assert "spool of an earlier start swept folders=1" in "".join(gateway.log)
        assert left
        assert not any(path.exists() for path in left)


def test_worker_beside_the_gateway_gets_its_folder_but_no_keys(
    tmp_path: Path,
) -> None:
    environment = {"API_KEYS": "secret", "API_KEYS_FILE": "/keys", "MODEL_ID": "embedded"}
    environment["OPENAI_API_KEY"] = "another secret"

    assert worker_environment(Settings(data_dir=tmp_path), environment) == {
        "MODEL_ID": "embedded",
        "DATA_DIR": str(tmp_path),
    }


async def test_start_says_plainly_what_the_embedded_model_hears(short_folder: Path) -> None:
    async with running_gateway(short_folder, MODEL_ID="embedded") as gateway:
        assert "digits" in (await gateway.until("WARNING"))[0] + gateway.log[-1]


async def test_open_server_says_so_once(short_folder: Path) -> None:
    async with running_gateway(short_folder, HOST="127.0.0.1") as gateway:
        (line,) = [line for line in gateway.log if "API_KEYS" in line]
        assert "WARNING" in line


async def test_keys_are_neither_logged_nor_missed(short_folder: Path) -> None:
    async with running_gateway(short_folder, API_KEYS="secret-key", LOG_LEVEL="debug") as gateway:
        assert (await gateway.get("/v1/models")).status == 401
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.end()

    log = "".join(gateway.log)
    assert "secret-key" not in log
    assert "no API_KEYS" not in log


async def test_variables_without_effect_give_one_warning(short_folder: Path) -> None:
    settings = {"QUANTIZE": "int8", "DUAL_MODEL": "true"}
    async with running_gateway(short_folder, **settings) as gateway:
        (line,) = [line for line in gateway.log if "no effect" in line]
        assert "DUAL_MODEL" in line
        assert "QUANTIZE" in line
