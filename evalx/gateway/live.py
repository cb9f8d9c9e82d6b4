"""Results as they come: server-sent events for one submission, and the original's web socket for all of a caller's.

What is told of a test while its batch runs is best effort (see ``evalx.cache.progress``). So that every test is told of
exactly once all the same, what was told is kept, and the rest comes from the result.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.websockets import WebSocket, WebSocketDisconnect

from evalx.cache.progress import TestProgress, summary
from evalx.errors import RequestError
from evalx.gateway import shapes
from evalx.gateway.desk import Desk
from evalx.gateway.entries import Entry, State
from evalx.gateway.hub import Feed, Heard, counted
from evalx.messages import decode_result

#: Seconds of silence after which a stream says that it is alive; proxies close what is silent for 30 to 60.
KEEP_ALIVE_S = 15.0
#: Seconds between looks for a result of which nothing was told; usually it is told at once.
LOOK_S = 1.0
#: Milliseconds after which a browser should open a stream again that broke.
RETRY_MS = 1000

_EVENT_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}


class Live:
    """The streaming routes, bound to one desk."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def events(self, request: Request) -> Response:
        """`GET /v1/submissions/{id}/events`: `status`, one `test` per test, `result`; then the stream ends."""
        submission_id, owner = request.path_params["id"], request.scope["state"]["caller"].owner
        # Before the stream begins: an unknown id is a 404.
        await self._desk.find(submission_id, owner)
        stream = self._events(submission_id, owner)
        return StreamingResponse(stream, media_type="text/event-stream", headers=_EVENT_HEADERS)

    async def _events(self, submission_id: str, owner: str) -> AsyncIterator[bytes]:
        told: set[str] = set()
        state: State | None = None
        yield b"retry: %d\n\n" % RETRY_MS
        with counted(), self._desk.hub.listen(submission_id) as feed:
            news = self._desk.hub.seen(submission_id)
            silent_s = 0.0
            while True:
                entry = await self._desk.find(submission_id, owner)
                if (result := entry.result) is not None:
                    for event in _final_events(result, told):
                        yield event
                    return
                # Never back: that it has finished may be heard while Redis still answers that there is no result.
                if (now := self._desk.state(entry)) != state != "processing":
                    state, silent_s = now, 0.0
                    yield _event("status", shapes.Accepted(submission_id, state))
                for event in _test_events(news, told):
                    yield event
                if feed.ended:
                    return
                heard = await feed.next(LOOK_S)
                news = list(heard.progress.tests) if heard is not None else []
                silent_s = 0.0 if heard is not None else silent_s + LOOK_S
                if silent_s >= KEEP_ALIVE_S:
                    silent_s = 0.0
                    yield b": still there\n\n"

    async def socket(self, socket: WebSocket) -> None:
        """`GET /ws`: a message for each submission of the caller that begins, each test, and each result."""
        await socket.accept()
        owner = socket.scope["state"]["caller"].owner
        wanted = socket.query_params.get("id")
        with counted(), self._desk.hub.listen(wanted) as feed:
            tasks = {
                asyncio.create_task(self._send_all(socket, feed, owner, wanted)),
                asyncio.create_task(_until_left(socket)),
            }
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                await _end(tasks)
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(1013 if feed.overrun else 1001)

    async def _send_all(self, socket: WebSocket, feed: Feed, owner: str, wanted: str | None) -> None:
        if wanted is not None and await self._tell_known(socket, wanted, owner):
            return
        while not (feed.ended or feed.overrun):
            heard = await feed.next(LOOK_S)
            if heard is not None:
                for message in await self._messages(heard, owner):
                    await socket.send_text(message)

    async def _tell_known(self, socket: WebSocket, submission_id: str, owner: str) -> bool:
        """A result that is there already."""
        with contextlib.suppress(RequestError):
            entry = await self._desk.find(submission_id, owner)
            if entry.packed is not None:
                await socket.send_text(_message(shapes.original_answer(entry, "finished")))
                return True
        return False

    async def _messages(self, heard: Heard, owner: str) -> list[str]:
        try:
            entry = await self._desk.find(heard.id, owner)
        except RequestError:
            return []
        return [_message(answer, test) for answer, test in _parts(heard, entry)]


def _parts(heard: Heard, entry: Entry) -> list[tuple[shapes.Answer, TestProgress | None]]:
    if entry.packed is not None:
        # A worker's last words may come after the result has.
        return [(shapes.original_answer(entry, "finished"), None)] if heard.progress.finished else []
    answer = shapes.original_answer(entry, "processing")
    started: list[tuple[shapes.Answer, TestProgress | None]] = [(answer, None)] if heard.progress.started else []
    return started + [(answer, test) for test in heard.progress.tests]


def _message(answer: shapes.Answer, test: TestProgress | None = None) -> str:
    """The original's message; while the batch runs, `test` says which test has ended and how."""
    document: dict[str, Any] = {"id": answer.token, "status": answer.status, "results": answer.results}
    if test is not None:
        document["test"] = test
    if answer.error is not msgspec.UNSET:
        document["error"] = answer.error
    return msgspec.json.encode(document).decode()


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    # Not gather: cancelled meanwhile, it would raise the tasks' cancellation and not ours.
    await asyncio.wait(tasks)
    for task in tasks:
        failure = None if task.cancelled() else task.exception()
        if failure is not None and not isinstance(failure, RuntimeError | WebSocketDisconnect):
            raise failure


async def _until_left(socket: WebSocket) -> None:
    """What the other side says is not listened to."""
    while (await socket.receive())["type"] != "websocket.disconnect":
        pass


def _final_events(result: bytes, told: set[str]) -> list[bytes]:
    rest = [summary(test) for test in decode_result(result).tests]
    return [*_test_events(rest, told), _event("result", msgspec.Raw(result))]


def _test_events(tests: list[TestProgress], told: set[str]) -> list[bytes]:
    events = []
    for test in tests:
        if test.id not in told:
            told.add(test.id)
            events.append(_event("test", test))
    return events


def _event(name: str, data: object) -> bytes:
    # JSON as it is encoded here has no line feeds, so one line of data is enough.
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))
