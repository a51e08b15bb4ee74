"""Upload bodies over real sockets: every shape clients send, and every limit at N and N+1."""

import asyncio
import errno
import os
from pathlib import Path

import pytest

from gateway.multipart import MAX_FIELDS, MAX_OVERHEAD_BYTES
from gateway.spool import Spool
from gateway.uploads import is_too_slow
from tests.fakes import FakeWorkerClient
from tests.gateway.harness import (
    field_part,
    file_part,
    is_closed,
    multipart_body,
    read_answer,
    request,
    running_server,
    upload_request,
)

PATH = "/v1/audio/transcriptions"
MULTIPART = {"Content-Type": "multipart/form-data; boundary=b"}


def chunked(body: bytes, size: int) -> bytes:
    """A body in Transfer-Encoding: chunked."""
    pieces = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


async def test_chunked_body_without_length_is_received(tmp_path: Path) -> None:
    recording = os.urandom(100_000)
    head = request("POST", PATH, headers={**MULTIPART, "Transfer-Encoding": "chunked"})

    async with running_server(tmp_path) as server:
        answer = await server.send(head + chunked(multipart_body(file_part(recording)), 777))

        assert answer.status == 200
        assert server.client.contents == [recording]


@pytest.mark.parametrize(
    "part",
    [
        b'Content-Disposition: form-data; name="file"\r\n\r\nspeech',
        b"Content-Disposition: form-data; name=file; filename=upload\r\n\r\nspeech",
        b'content-disposition: form-data; filename="x"; name="file"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\nspeech",
        'Content-Disposition: form-data; name="file"; filename="ß%22.mp3"\r\n\r\nspeech'.encode(),
    ],
    ids=["no filename or type", "no quotes or type", "octet-stream", "UTF-8 filename"],
)
async def test_file_part_is_taken_however_clients_write_it(tmp_path: Path, part: bytes) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(part)

        assert answer.status == 200
        assert server.client.contents == [b"speech"]


async def test_file_may_come_first_or_last(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        first = await server.upload(file_part(), field_part("language", "en"))
        last = await server.upload(field_part("language", "en"), file_part())

        assert (first.status, last.status) == (200, 200)
        assert [wanted.language for wanted in server.client.requests] == ["English", "English"]


async def test_recording_with_boundary_like_bytes_arrives_unchanged(tmp_path: Path) -> None:
    recording = b"\r\n--c\r\n\r\n--\r\n-\r\n--B--\r\n" * 5000

    async with running_server(tmp_path) as server:
        await server.upload(file_part(recording))

        assert server.client.contents == [recording]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([field_part("model", "x")], "missing"),
        ([file_part(b"")], "empty"),
        ([file_part(), file_part()], "one recording"),
        ([file_part(), file_part(name="other")], "no other files"),
        ([file_part(), b"X-Nothing: 1\r\n\r\nx"], "usable name"),
        ([file_part(), b'Content-Disposition: form-data; name=""\r\n\r\nx'], "usable name"),
        ([file_part(), field_part("prompt", "x" * 65_537)], "65536"),
        ([file_part(), b'Content-Disposition: form-data; name="prompt"\r\n\r\n\xff'], "UTF-8"),
        ([b"A: 1\r\n" * 17 + file_part()], "malformed"),
        ([b"A: " + b"1" * 5000 + b"\r\n" + file_part()], "malformed"),
    ],
)
async def test_unusable_form_is_a_400_that_says_what_to_do(
    tmp_path: Path, parts: list[bytes], message: str
) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.upload(*parts)

        assert answer.status == 400
        assert message in answer.error["message"]
        assert server.client.requests == []
        assert server.spool_files == []


async def test_as_many_fields_as_allowed_are_read_and_one_more_is_refused(tmp_path: Path) -> None:
    fields = [field_part(f"extra{number}", "x") for number in range(MAX_FIELDS)]

    async with running_server(tmp_path) as server:
        allowed = await server.upload(*fields, file_part())
        refused = await server.upload(*fields, field_part("more", "x"), file_part())

    assert (allowed.status, refused.status) == (200, 400)


async def test_fields_are_bounded_together_as_they_are_kept_in_memory(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        allowed = await server.upload(*[field_part("x", "x" * 65_000)] * 8, file_part())
        refused = await server.upload(*[field_part("x", "x" * 65_536)] * 8, file_part())
        preamble = await server.send(
            request("POST", PATH, headers=MULTIPART, body=b"\r\n" * MAX_OVERHEAD_BYTES)
        )

    assert [answer.status for answer in (allowed, refused, preamble)] == [200, 413, 413]


async def test_recording_of_the_limit_is_taken_and_one_byte_more_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path, max_upload_bytes=100_000) as server:
        allowed = await server.upload(file_part(bytes(100_000)))
        refused = await server.upload(file_part(bytes(100_001)))

        assert (allowed.status, refused.status) == (200, 413)
        assert refused.error["param"] == "file"
        assert "100000" in refused.error["message"]
        assert server.spool_files == []


async def test_length_declared_too_large_is_refused_before_the_body(tmp_path: Path) -> None:
    length = 100_000 + MAX_OVERHEAD_BYTES + 1
    head = request("POST", PATH, headers={**MULTIPART, "Content-Length": str(length)})

    async with running_server(tmp_path, max_upload_bytes=100_000) as server:
        answer = await server.send(head)

    assert answer.status == 413


async def test_chunked_body_that_never_ends_is_refused_at_the_limit(tmp_path: Path) -> None:
    head = request("POST", PATH, headers={**MULTIPART, "Transfer-Encoding": "chunked"})
    piece = b"%x\r\n%b\r\n" % (65_536, bytes(65_536))

    async with (
        running_server(tmp_path, max_upload_bytes=100_000) as server,
        server.connection() as (reader, writer),
    ):
        writer.write(head + b"5\r\n--b\r\n\r\n")
        writer.write(chunked(file_part(b""), 1000)[: -len(b"0\r\n\r\n")])
        for _ in range(4):
            writer.write(piece)
        answer = await read_answer(reader)

    assert answer.status == 413


async def test_refusal_is_readable_by_a_client_that_sends_on(tmp_path: Path) -> None:
    """An early close would reset the connection under the client, which then tries again."""
    size = 8_000_000
    body = multipart_body(file_part(bytes(size)))

    async with (
        running_server(tmp_path, max_upload_bytes=1000) as server,
        server.connection() as (reader, writer),
    ):
        head = {**MULTIPART, "Connection": "close", "Content-Length": str(len(body))}
        writer.write(request("POST", PATH, headers=head))
        for start in range(0, len(body), 65_536):
            writer.write(body[start : start + 65_536])
            await writer.drain()
        answer = await read_answer(reader)

        assert answer.status == 413
        assert await is_closed(reader)


async def test_client_that_asks_before_sending_is_refused_without_a_100(tmp_path: Path) -> None:
    headers = {**MULTIPART, "Expect": "100-continue", "Content-Length": "900000000000"}

    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("POST", PATH, headers=headers))

        assert (await reader.readline()).split()[1] == b"413"


async def test_client_that_asks_before_sending_is_told_to_go_on(tmp_path: Path) -> None:
    body = multipart_body(file_part())
    headers = {**MULTIPART, "Expect": "100-continue", "Content-Length": str(len(body))}

    async with running_server(tmp_path) as server, server.connection() as (reader, writer):
        writer.write(request("POST", PATH, headers=headers))
        assert await reader.readline() == b"HTTP/1.1 100 Continue\r\n"
        await reader.readline()
        writer.write(body)

        assert (await read_answer(reader)).status == 200


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 415),
        ("application/x-www-form-urlencoded", 415),
        ("multipart/mixed; boundary=b", 415),
        ("", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
        ("multipart/form-data; boundary=" + "b" * 71, 400),
        ("multipart/form-data; boundary=other", 400),
        ("multipart/form-data; boundary*=UTF-8''b", 400),
        ("multipart/form-data; boundary=b; charset=undefined", 200),
        ('multipart/form-data; charset="utf-16"; boundary="b"', 200),
        ("Multipart/Form-Data; Boundary=b", 200),
    ],
)
async def test_content_type_tricks_never_become_a_500(
    tmp_path: Path, content_type: str, status: int
) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(upload_request(file_part(), content_type=content_type))

    assert answer.status == status


async def test_compressed_body_is_refused(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        answer = await server.send(
            upload_request(file_part(), headers={"Content-Encoding": "gzip"})
        )

    assert answer.status == 415


async def test_body_without_its_closing_boundary_is_a_400(tmp_path: Path) -> None:
    body = multipart_body(file_part())[: -len(b"--\r\n")]

    async with running_server(tmp_path) as server:
        answer = await server.send(request("POST", PATH, headers=MULTIPART, body=body))

        assert answer.status == 400
        assert server.client.requests == []


async def test_client_that_leaves_in_the_middle_leaves_no_file(tmp_path: Path) -> None:
    async with running_server(tmp_path) as server:
        async with server.connection() as (_, writer):
            whole = upload_request(file_part(bytes(1_000_000)))
            writer.write(whole[: len(whole) // 2])
            await writer.drain()
            await _until_spooled(server.gateway.spool)
        await asyncio.gather(*server.server.requests_in_flight)

        assert server.spool_files == []
        assert server.client.requests == []


async def _until_spooled(spool: Spool) -> None:
    """Give way to the server until it has begun a file."""
    while not any(path.is_file() for path in spool.folder.rglob("*")):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_upload_that_stands_still_is_ended(tmp_path: Path) -> None:
    async with running_server(tmp_path, body_timeout=0.05) as server:
        async with server.connection() as (reader, writer):
            writer.write(upload_request(file_part(bytes(1000)))[:-500])
            answer = await read_answer(reader)

            assert answer.status == 408
            assert await is_closed(reader)
        assert server.spool_files == []


def test_upload_that_only_drips_is_too_slow_after_a_minute() -> None:
    assert not is_too_slow(1, seconds=59)
    assert not is_too_slow(61 * 1024, seconds=61)
    assert is_too_slow(61 * 1024 - 1, seconds=61)


async def test_full_disk_is_a_507_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(descriptor: int, content: memoryview) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    async with running_server(tmp_path) as server:
        with monkeypatch.context() as patched:
            patched.setattr(os, "write", full)
            answer = await server.upload(file_part())
        after = await server.upload(file_part())

        assert answer.status == 507
        assert answer.error["code"] == "insufficient_storage"
        assert "No space left" not in answer.body.decode()
        assert "No space left" in caplog.text
        assert server.spool_files == []
        assert after.status == 200


async def test_spool_files_are_for_their_owner_only(tmp_path: Path) -> None:
    client = FakeWorkerClient()
    client.gate.clear()

    async with running_server(tmp_path, client) as server, server.connection() as (_, writer):
        writer.write(upload_request(file_part()))
        await client.arrived.wait()
        path = client.requests[0].upload_path

        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert server.gateway.spool.folder.stat().st_mode & 0o777 == 0o700
