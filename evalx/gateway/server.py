"""The gateway as a process: listens, and ends in order at SIGTERM and Ctrl-C, or when it is of no use any more.

Shutdown, in less than 15 s from SIGTERM: streams and waiting requests end at once, the rest of the requests has
``REQUESTS_END_S``, and the parts of the gateway, connections to Kafka and Redis, take some milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator

import structlog
import uvicorn

from evalx.errors import ConfigurationError, EvalxError
from evalx.gateway.app import Gateway
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds for requests in progress: a submission that Kafka is slow to confirm has as long as this.
REQUESTS_END_S = 10

#: Seconds between looks at whether a part has failed.
WATCH_S = 0.5
#: Seconds that an idle connection is kept: longer than most proxies keep theirs, so that they never use a closed one.
KEEP_ALIVE_S = 75
#: Bytes of a message on a web socket: what callers say there is not listened to.
WS_MESSAGE_BYTES = 16 << 10
#: Connections that wait to be taken: a burst of callers is not turned away while the loop is busy.
BACKLOG = 4096


class _Server(uvicorn.Server):
    """A server whose process has signal handlers of its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals to ``serve``."""
        yield


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        EvalxError: it cannot start, or cannot go on; the supervisor should start a new process.
    """
    gateway = Gateway(settings)
    config = uvicorn.Config(
        gateway.app,
        host=settings.gateway_host,
        port=settings.gateway_port,
        http="httptools",
        ws="websockets-sansio",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws_max_size=WS_MESSAGE_BYTES,
        backlog=BACKLOG,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=REQUESTS_END_S,
    )
    server = _Server(config)

    def begin_to_stop() -> None:
        log.info("gateway_stopping", gateway=gateway.name)
        gateway.begin_to_stop()
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, begin_to_stop)
    async with contextlib.AsyncExitStack() as stack:
        # Not uvicorn's lifespan: what goes wrong in it is only logged, and here it is the command's error.
        await stack.enter_async_context(gateway.app.router.lifespan_context(gateway.app))
        watching = asyncio.create_task(_watch(gateway, server))
        stack.callback(watching.cancel)
        try:
            await server.serve()
        except SystemExit:
            place = f"{settings.gateway_host}:{settings.gateway_port}"
            raise ConfigurationError(f"EVALX_GATEWAY_PORT: cannot listen on {place}; is it in use?") from None
    if gateway.failure is not None:
        raise EvalxError(gateway.failure)


async def _watch(gateway: Gateway, server: uvicorn.Server) -> None:
    while gateway.failure is None:  # noqa: ASYNC110  any of several tasks may end
        await asyncio.sleep(WATCH_S)
    log.error("gateway_failed", reason=gateway.failure)
    gateway.begin_to_stop()
    server.should_exit = True
