"""What every request passes: an id, who is asking, the access log, and errors as JSON.

The log names the route, not the path, and neither queries nor headers nor bodies: ids, which open results, tokens and
code never get into it.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from typing import Any

import msgspec
import structlog
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from evalx.errors import RejectedError, RequestError, ServiceUnavailableError
from evalx.gateway.front import FOLDER
from evalx.gateway.metrics import REQUEST_SECONDS, REQUESTS
from evalx.gateway.shapes import ErrorAnswer
from evalx.settings import Settings

log = structlog.get_logger(__name__)

REQUEST_ID = "x-request-id"
_GOOD_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}\Z")
#: Paths that tell nothing of anybody: probes and scrapers call them without a token, and the page asks for one.
_OPEN = frozenset({"/health", "/livez", "/readyz", "/metrics", "/openapi.json", "/v1/languages", "/"})
#: Paths that are called again and again, of which the log tells only when it tells everything.
_QUIET = _OPEN | {"/v1/queue"}
#: Bytes that a refused body is still read for, so that the caller hears the answer instead of a broken connection.
DRAIN_BYTES = 64 << 20


class Caller(msgspec.Struct, frozen=True):
    """Who asks: ``owner`` is the name of the token, empty without tokens; limits count by ``payer``."""

    owner: str
    payer: str


class Guard:
    """The outermost layer of the application."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or pass on what is none."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get(REQUEST_ID, "")
        request_id = given if _GOOD_REQUEST_ID.match(given) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        await self._serve(scope, receive, send, headers, request_id)

    async def _serve(self, scope: Scope, receive: Receive, send: Send, headers: Headers, request_id: str) -> None:
        started = time.perf_counter()
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[REQUEST_ID] = request_id
            await send(message)

        caller: Caller | None = None
        try:
            caller = self._admit(scope, headers)
            scope["state"]["caller"] = caller
            await self._app(scope, receive, send_named)
        except RequestError as error:
            await _refuse(scope, receive, send_named, error)
        except Exception as error:
            log.exception("request_failed", request_id=request_id)
            if status == 0 and scope["type"] == "http":
                text = f"internal error; please report it with the request id {request_id}"
                await answer_json(ErrorAnswer(error=text), 500)(scope, receive, send_named)
            else:
                # The answer has begun: only a broken connection can say that it is not whole.
                raise error
        finally:
            self._note(scope, caller, status, time.perf_counter() - started, request_id)

    def _admit(self, scope: Scope, headers: Headers) -> Caller:
        """Who is asking; raises RequestError for a token that is missing or wrong."""
        client = scope.get("client")
        address = client[0] if client else "unknown"
        tokens = self._settings.gateway_tokens
        if not tokens or _is_open(scope["path"]):
            return Caller("", f"address:{address}")
        scheme, _, secret = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(secret.strip().encode()).digest()
        owner = ""
        # All of them, whichever fits: the time says nothing of the tokens.
        for token in tokens:
            if hmac.compare_digest(token.digest, digest):
                owner = token.name
        if not owner or scheme.lower() != "bearer":
            raise RequestError(401, "a token of this gateway is needed: authorization: Bearer TOKEN")
        return Caller(owner, f"token:{owner}")

    def _note(self, scope: Scope, caller: Caller | None, status: int, seconds: float, request_id: str) -> None:
        route = getattr(scope.get("route"), "path", "none")
        REQUESTS.labels(route, str(status)).inc()
        REQUEST_SECONDS.labels(route).observe(seconds)
        note = log.debug if scope["path"] in _QUIET or _is_open(scope["path"]) else log.info
        note(
            "request",
            method=scope.get("method", "WEBSOCKET"),
            route=route,
            status=status,
            ms=round(seconds * 1000, 1),
            caller=caller.owner if caller is not None else None,
            request_id=request_id,
        )


def _is_open(path: str) -> bool:
    return path in _OPEN or path.startswith(FOLDER)


async def read_body(request: Request, most: int) -> bytes:
    """The body, if it says that it is JSON and is not larger than it may be.

    Raises:
        RequestError: 413 it is larger, 415 it is something else, 400 the caller has gone away.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        # Also what keeps pages of other origins out: a browser sends other types without asking first.
        raise RequestError(415, "JSON is expected: content-type: application/json")
    size = 0
    chunks: list[bytes] = []
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > DRAIN_BYTES:
                break
            if size <= most:
                chunks.append(chunk)
    except ClientDisconnect:
        raise RequestError(400, "the connection ended within the body") from None
    if size > most:
        raise RequestError(
            413, f"the body is larger than the {most} bytes that are allowed; send fewer tests at a time"
        )
    return b"".join(chunks)


def answer_json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """A response of any message type."""
    body = value if isinstance(value, bytes) else msgspec.json.encode(value)
    return Response(body, status, headers, media_type="application/json")


async def on_error(_request: Request, error: Exception) -> Response:
    """An exception on purpose as an answer."""
    match error:
        case RejectedError():
            text = f"{error.field}: {error.message}" if error.field else error.message
            answer = ErrorAnswer(error=text, code=error.code, field=error.field or msgspec.UNSET)
            return answer_json(answer, 413 if error.code == "code_too_large" else 400)
        case RequestError():
            return answer_json(ErrorAnswer(error=error.message), error.status, _headers(error))
        case HTTPException():
            text = _EXPLAINED.get(error.status_code, error.detail)
            return answer_json(ErrorAnswer(error=text), error.status_code, dict(error.headers or {}))
        case ServiceUnavailableError():
            return answer_json(ErrorAnswer(error=f"{error.message}; try again"), 503, {"retry-after": "5"})
    raise error


_EXPLAINED = {
    404: "there is no such page; /openapi.json lists what there is",
    405: "this page is not for this method; see the header `allow`",
}


def _headers(error: RequestError) -> dict[str, str]:
    headers = {} if error.retry_after_s is None else {"retry-after": str(error.retry_after_s)}
    return headers | ({"www-authenticate": "Bearer"} if error.status == 401 else {})


async def _refuse(scope: Scope, receive: Receive, send: Send, error: RequestError) -> None:
    if scope["type"] == "websocket":
        # Before it is accepted, the server makes a 403 of this.
        await send({"type": "websocket.close", "code": 1008, "reason": error.message})
        return
    response = answer_json(ErrorAnswer(error=error.message), error.status, _headers(error))
    await response(scope, receive, send)
