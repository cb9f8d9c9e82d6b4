"""Health and metrics of a worker over HTTP: ``/livez``, ``/readyz``, ``/metrics``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import orjson
from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from evalx.metrics import REGISTRY
from evalx.settings import Settings


class HealthServer:
    """Answers while the event loop runs. Redis away means degraded, not unready: judging goes on without it."""

    def __init__(self, settings: Settings, parts: Callable[[], Awaitable[dict[str, bool]]]) -> None:
        self._settings = settings
        self._parts = parts
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen."""
        app = web.Application()
        app.router.add_get("/livez", self._live)
        app.router.add_get("/readyz", self._ready)
        app.router.add_get("/metrics", self._metrics)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, self._settings.health_host, self._settings.health_port).start()

    async def stop(self) -> None:
        """Close."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _live(self, _request: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _request: web.Request) -> web.Response:
        parts = await self._parts()
        ready = all(up for part, up in parts.items() if part != "redis")
        body = orjson.dumps({"ready": ready, "degraded": ready and not all(parts.values()), "parts": parts})
        return web.Response(body=body, status=200 if ready else 503, content_type="application/json")

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"content-type": CONTENT_TYPE_LATEST})
