"""The routes: from a request to the desk and back. Shapes are in ``shapes``, streams in ``live``."""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeAlias

import msgspec
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response

from evalx.errors import RequestError
from evalx.gateway import openapi, shapes
from evalx.gateway.desk import Desk, Order
from evalx.gateway.entries import Entry, Ticket
from evalx.gateway.guard import Caller, answer_json, read_body
from evalx.gateway.metrics import REGISTRY
from evalx.gateway.webhooks import check_url
from evalx.languages import Registry
from evalx.messages import Submission
from evalx.settings import Settings

Handler: TypeAlias = Callable[[Request], Awaitable[Response]]

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}\Z")
#: Bytes of randomness in a token: whoever knows it may see the result.
_TOKEN_BYTES = 16
#: Where a lane's name is not given.
_USUAL_LANE = "normal"


class Routes:
    """The handlers, bound to one desk."""

    def __init__(self, settings: Settings, desk: Desk, registry: Registry, ready: Callable[[], str]) -> None:
        self._settings = settings
        self._desk = desk
        self._registry = registry
        self._rules = registry.rules(settings)
        self._ready = ready
        self._openapi = openapi.encoded()
        self._languages = msgspec.json.encode(shapes.installed(registry))

    async def execute(self, request: Request) -> Response:
        """`POST /execute`."""
        return await self._original(request, shapes.single_submission)

    async def execute_batch(self, request: Request) -> Response:
        """`POST /execute-batch`, `POST /execute/batch`."""
        return await self._original(request, shapes.batch_submission)

    async def execute_parallel(self, request: Request) -> Response:
        """`POST /execute-parallel`: waits for all."""
        seconds = self._wait(request, self._settings.gateway_max_wait_s)
        body = await self._body(request)
        tokens = [_new_id() for _ in range(self._settings.max_tests)]
        submissions = shapes.parallel_submissions(body, tokens, self._registry, self._rules)
        tickets = await self._accept(request, submissions)
        deadline = time.monotonic() + seconds
        entries = [await self._finished(ticket, deadline - time.monotonic()) for ticket in tickets]
        return answer_json([shapes.parallel_row(self._original_answer(entry)) for entry in entries])

    async def submission(self, request: Request) -> Response:
        """`GET /submissions/{token}`."""
        entry = await self._desk.find(request.path_params["token"], _caller(request).owner)
        return answer_json(self._original_answer(entry))

    async def submit(self, request: Request) -> Response:
        """`POST /v1/submissions`."""
        seconds = self._wait(request, 0.0)
        body = await self._body(request)
        submission, callback_url = shapes.native_submission(body, _new_id(), self._rules)
        if callback_url is not None:
            check_url(callback_url, self._settings)
        (ticket,) = await self._accept(request, [submission], callback_url)
        entry = await self._finished(ticket, seconds)
        return self._native_answer(entry, {"location": f"/v1/submissions/{ticket.id}"})

    async def result(self, request: Request) -> Response:
        """`GET /v1/submissions/{id}`."""
        seconds = self._wait(request, 0.0)
        submission_id, owner = request.path_params["id"], _caller(request).owner
        entry = await self._desk.find(submission_id, owner)
        if entry.packed is None and seconds:
            entry = await self._desk.wait(submission_id, owner, seconds)
        return self._native_answer(entry)

    async def languages(self, _request: Request) -> Response:
        """`GET /v1/languages`: what a submission may name."""
        return answer_json(self._languages)

    async def queue(self, _request: Request) -> Response:
        """`GET /v1/queue`: how much waits."""
        return answer_json(await self._desk.queue())

    async def health(self, _request: Request) -> Response:
        """`GET /health`, `/readyz`: whether submissions are taken."""
        problem = self._ready()
        if problem:
            raise RequestError(503, problem, 5)
        return answer_json({"status": "ok", "waiting": self._desk.waiting})

    async def alive(self, _request: Request) -> Response:
        """`GET /livez`: whether this process is of use; one that is not ends by itself."""
        return answer_json({"status": "ok"})

    async def metrics(self, _request: Request) -> Response:
        """`GET /metrics`."""
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    async def openapi(self, _request: Request) -> Response:
        """`GET /openapi.json`."""
        return answer_json(self._openapi)

    async def _original(self, request: Request, read: Callable[..., Submission]) -> Response:
        seconds = self._wait(request, 0.0)
        submission = read(await self._body(request), _new_id(), self._registry, self._rules)
        (ticket,) = await self._accept(request, [submission])
        return answer_json(self._original_answer(await self._finished(ticket, seconds)))

    async def _body(self, request: Request) -> bytes:
        return await read_body(request, self._settings.gateway_max_body_bytes)

    async def _accept(
        self, request: Request, submissions: Sequence[Submission], callback_url: str | None = None
    ) -> list[Ticket]:
        lane, caller = self._lane(request), _caller(request)
        trace = request.headers.get("traceparent", "")
        orders = [
            Order(
                submission=submission,
                lane=lane,
                owner=caller.owner,
                payer=caller.payer,
                callback_url=callback_url,
                traceparent=trace if _TRACEPARENT.match(trace) else None,
            )
            for submission in submissions
        ]
        return await self._desk.accept(orders)

    async def _finished(self, ticket: Ticket, seconds: float) -> Entry:
        if seconds <= 0:
            return await self._desk.find(ticket.id, ticket.owner)
        return await self._desk.wait(ticket.id, ticket.owner, seconds)

    def _original_answer(self, entry: Entry) -> shapes.Answer:
        return shapes.original_answer(entry, self._desk.state(entry))

    def _native_answer(self, entry: Entry, headers: dict[str, str] | None = None) -> Response:
        if (result := entry.result) is not None:
            return answer_json(result, 200, headers)
        return answer_json(shapes.Accepted(entry.ticket.id, self._desk.state(entry)), 202, headers)

    def _lane(self, request: Request) -> str:
        lanes = self._desk.lanes
        usual = _USUAL_LANE if _USUAL_LANE in lanes else lanes[-1]
        lane = request.query_params.get("priority", usual)
        if lane not in lanes:
            raise RequestError(400, f"priority: {lane[:40]!r} is not one of {', '.join(lanes)}")
        return lane

    def _wait(self, request: Request, default: float) -> float:
        text = request.query_params.get("wait")
        if text is None:
            return default
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        most = self._settings.gateway_max_wait_s
        if not 0 <= seconds <= most:
            raise RequestError(400, f"wait: a number of seconds from 0 to {most:g} is expected")
        return seconds


def _new_id() -> str:
    return secrets.token_hex(_TOKEN_BYTES)


def _caller(request: Request) -> Caller:
    caller: Caller = request.scope["state"]["caller"]
    return caller
