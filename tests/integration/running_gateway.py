"""A gateway as a process of its own, for tests that speak HTTP to it or open its page."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
from integration_stack import EVALX, Topics, Worker, eventually, free_port


class RunningGateway:
    """One ``evalx gateway`` process, and a client of it."""

    def __init__(self, topics: Topics, **settings: object) -> None:
        self.topics = topics
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = topics.environment(gateway_port=port, **settings)
        # Its log is shown when a test fails, and the leak check knows of it.
        self.process = Worker(topics.services, environment, (str(EVALX), "gateway"))
        self.session = aiohttp.ClientSession(self.url)
        self.killed = False

    async def ready(self) -> None:
        await eventually(self._is_ready, "the gateway is ready")

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.get(path, **options) as response:
            return response.status, await response.json()

    async def post(self, path: str, document: Any, **options: Any) -> tuple[int, Any]:
        async with self.session.post(path, json=document, **options) as response:
            return response.status, await response.json()

    async def _is_ready(self) -> bool:
        assert self.process.process.poll() is None, self.process.log.read_text()[-3000:]
        with contextlib.suppress(aiohttp.ClientError):
            return (await self.get("/health"))[0] == 200
        return False


@contextlib.asynccontextmanager
async def running(topics: Topics, **settings: object) -> AsyncIterator[RunningGateway]:
    gateway = RunningGateway(topics, **settings)
    try:
        await gateway.ready()
        yield gateway
        if not gateway.killed:
            code, _ = await gateway.process.stop()
            assert code == 0
    finally:
        await gateway.session.close()
        gateway.process.kill()
