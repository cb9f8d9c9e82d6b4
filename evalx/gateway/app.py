"""Puts the gateway together: its parts in the order in which they start, its routes, and what every request passes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
from collections.abc import AsyncIterator
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.routing import BaseRoute, Route, WebSocketRoute

from evalx.errors import RejectedError, RequestError, ServiceUnavailableError
from evalx.gateway.desk import Desk
from evalx.gateway.front import FOLDER, Front
from evalx.gateway.guard import REQUEST_ID, Guard, on_error
from evalx.gateway.hub import Hub
from evalx.gateway.live import Live
from evalx.gateway.routes import Routes
from evalx.gateway.shelf import Shelf
from evalx.gateway.webhooks import Webhooks
from evalx.gateway.wire import Wire
from evalx.languages import Registry
from evalx.settings import Settings

log = structlog.get_logger(__name__)


class Gateway:
    """One gateway: ``app`` is the ASGI application, whose lifespan starts and stops all parts."""

    def __init__(self, settings: Settings, wire: Wire | None = None, shelf: Shelf | None = None) -> None:
        # Not the name alone: a container that was restarted has the same host and process number.
        self.name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"
        self._settings = settings
        self._wire = wire or Wire(settings)
        self._shelf = shelf or Shelf(settings, self.name)
        self.hub = Hub(self._shelf.link, settings.topic_prefix)
        self.desk = Desk(settings, self.name, self._wire, self._shelf, self.hub)
        self._webhooks = Webhooks(settings, self.desk, self._shelf)
        self._keeper: asyncio.Task[None] | None = None
        self.app = self._application()

    @property
    def failure(self) -> str | None:
        """Why this process is of no use any more, if it is."""
        for name, task in (("the results' reader", self._wire.reader), ("the keeper", self._keeper)):
            if task is not None and task.done() and not task.cancelled():
                return f"a part of the gateway has ended, {name}: {task.exception()!r}"
        return None

    def begin_to_stop(self) -> None:
        """End what would keep connections open: streams, and requests that wait."""
        self.hub.end()

    def ready(self) -> str:
        """Why no submissions can be taken; empty when they can."""
        if self._wire.reader is None:
            return "the gateway is starting"
        return self.failure or ""

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Any) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._shelf.close)
            stack.push_async_callback(self._wire.stop)
            await self._wire.start(self.desk.wants, self.desk.on_result)
            stack.push_async_callback(self.hub.stop)
            self.hub.start()
            stack.push_async_callback(self._stop_desk)
            self._keeper = asyncio.create_task(self.desk.keep_alive())
            stack.push_async_callback(self._webhooks.stop)
            self._webhooks.start()
            log.info("gateway_started", gateway=self.name)
            yield
        log.info("gateway_stopped", gateway=self.name)

    async def _stop_desk(self) -> None:
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        await self.desk.stop()

    def _application(self) -> Starlette:
        settings = self._settings
        # From outside in; the guard is the outermost, but for what answers a browser's question about CORS.
        layers = [Middleware(Guard, settings)]
        if settings.gateway_cors_origins:
            layers.insert(0, _cors(settings))
        return Starlette(
            routes=self._routes(),
            middleware=layers,
            lifespan=self._lifespan,
            exception_handlers=dict.fromkeys(
                (RejectedError, RequestError, ServiceUnavailableError, HTTPException), on_error
            ),
        )

    def _routes(self) -> list[BaseRoute]:
        routes = Routes(self._settings, self.desk, Registry.load(), self.ready)
        live = Live(self.desk)
        front = Front()
        return [
            Route("/", front.index),
            Route(FOLDER + "{name}", front.file),
            Route("/execute", routes.execute, methods=["POST"]),
            Route("/execute-batch", routes.execute_batch, methods=["POST"]),
            Route("/execute/batch", routes.execute_batch, methods=["POST"]),
            Route("/execute-parallel", routes.execute_parallel, methods=["POST"]),
            Route("/submissions/{token}", routes.submission),
            Route("/v1/submissions", routes.submit, methods=["POST"]),
            Route("/v1/submissions/{id}", routes.result),
            Route("/v1/submissions/{id}/events", live.events),
            Route("/v1/languages", routes.languages),
            Route("/v1/queue", routes.queue),
            WebSocketRoute("/ws", live.socket),
            Route("/health", routes.health),
            Route("/readyz", routes.health),
            Route("/livez", routes.alive),
            Route("/metrics", routes.metrics),
            Route("/openapi.json", routes.openapi),
        ]


def _cors(settings: Settings) -> Middleware:
    return Middleware(
        CORSMiddleware,
        allow_origins=list(settings.gateway_cors_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["authorization", "content-type", REQUEST_ID],
        expose_headers=["location", "retry-after", REQUEST_ID],
    )
