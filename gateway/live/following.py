"""Followers of a call over HTTP: server-sent events, or a WebSocket on the same path."""

import asyncio
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from starlette.datastructures import Headers, QueryParams
from starlette.types import Receive, Scope, Send

from gateway.boundary import ClientGone, record_of
from gateway.concurrency import first_finished
from gateway.formats.events import KEEP_ALIVE
from gateway.live.call_events import Calls, Follower
from gateway.live.call_history import Event
from gateway.open_answer import OpenAnswer
from gateway.routes.answering import QUIET_SECONDS, STREAM_HEADERS
from gateway.uploads import wait_for_disconnect
from gateway.websockets import frames
from gateway.websockets.handshake import chosen_subprotocol
from gateway.websockets.wire import SocketGone


async def send_events(calls: Calls, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one GET. Raises ApiError, and ClientGone where the client leaves before the end.

    Whoever comes back behind the call's last event gets 204, which keeps EventSource from coming
    once more (HTML standard, 9.2.3).
    """
    with _following(calls, scope) as follower:
        if follower.has_everything:
            await _send_head(send, 204, {})
            return
        if scope["method"] == "HEAD":
            await _send_head(send, 200, STREAM_HEADERS)
            return
        answer = OpenAnswer(send, STREAM_HEADERS)
        await answer.write(b": events of a call\n\n")
        async with asyncio.TaskGroup() as tasks:
            telling = tasks.create_task(_stream(follower, answer), name="follower writer")
            leaving = tasks.create_task(wait_for_disconnect(receive), name="follower watcher")
            awake = tasks.create_task(
                answer.keep_awake(KEEP_ALIVE, QUIET_SECONDS), name="follower keep-alive"
            )
            await asyncio.wait((telling, leaving), return_when=asyncio.FIRST_COMPLETED)
            for task in (telling, leaving, awake):
                task.cancel()
        if telling.cancelled():
            raise ClientGone
        await answer.finish()


async def send_messages(calls: Calls, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer one WebSocket: a text frame an event, then 1000. Raises ApiError."""
    with _following(calls, scope) as follower:
        await receive()
        subprotocol = chosen_subprotocol(scope["subprotocols"])
        await send({"type": "websocket.accept", "subprotocol": subprotocol})
        await first_finished(_send_all(follower, send), _wait_for_close(receive))


@contextmanager
def _following(calls: Calls, scope: Scope) -> Iterator[Follower]:
    record = record_of(scope)
    call_id = scope["path_params"]["call_id"]
    query = QueryParams(scope["query_string"])
    last_event_id = Headers(scope=scope).get("last-event-id") or query.get("last_event_id", "")
    with calls.follow(record.owner, call_id, last_event_id) as follower:
        yield follower


async def _stream(follower: Follower, answer: OpenAnswer) -> None:
    async for events in follower.batches():
        await answer.write(_lines(events))


def _lines(events: Iterable[Event]) -> Iterator[bytes]:
    for event in events:
        name = b"" if event.event_id is None else b"id: " + event.event_id.encode() + b"\n"
        yield name + b"data: " + event.content + b"\n\n"


async def _send_all(follower: Follower, send: Send) -> None:
    try:
        async for events in follower.batches():
            for event in events:
                await send({"type": "websocket.send", "text": event.content.decode()})
        await send({"type": "websocket.close", "code": frames.NORMAL, "reason": ""})
    except SocketGone:
        return  # and so is who would be told


async def _wait_for_close(receive: Receive) -> None:
    """What a follower says means nothing."""
    while (await receive())["type"] != "websocket.disconnect":
        pass


async def _send_head(send: Send, status: int, headers: dict[str, str]) -> None:
    encoded = [(name.encode("ascii"), value.encode("ascii")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": b""})
