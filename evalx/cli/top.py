"""`evalx top`: what the workers do, live: lanes, rates, where the time goes, containers, caches, the slowest."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live

from evalx.agents.lag import LagReader, LaneLag, by_lane
from evalx.cli.running import be_quiet, load_settings, run
from evalx.cli.screen import draw
from evalx.cli.vitals import Picture, picture
from evalx.cli.workers import Workers
from evalx.errors import EvalxError, UsageError
from evalx.settings import Settings

#: Seconds between two looks: workers look at their lanes twice a second.
INTERVAL_S = 2.0
#: Seconds for the broker before the first picture is shown without it.
BROKER_TIMEOUT_S = 15.0
#: Characters of a line where nobody looks.
PLAIN_WIDTH = 120


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: evalx top --worker host-1 --worker host-2:6067")(top)


def top(
    worker: Annotated[
        list[str] | None,
        typer.Option(
            "--worker", metavar="HOST[:PORT]", help="A worker's health port; all addresses of the name. Repeatable."
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Two looks, one picture, then end.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between two looks.", min=0.2, max=3600, metavar="S")
    ] = INTERVAL_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; without --once one document a line.")] = False,
) -> None:
    """Show what the workers do, until Ctrl-C: lanes, rates, times by stage, containers, caches, the slowest.

    Workers are those of --worker, else of EVALX_WORKER_ADDRESSES, else all that Redis knows of. What waits is the
    broker's word. Whoever does not answer is named, and the rest is shown.

    Exit codes: 0 done, 2 wrong usage, 3 neither a worker nor Kafka can be reached.
    """
    if not once and not as_json and not sys.stdout.isatty():
        raise UsageError("this is no terminal: add --once or --json")
    settings = load_settings(**({"worker_addresses": tuple(worker)} if worker else {}))
    be_quiet()
    run(_show(settings, once=once, interval_s=interval, as_json=as_json))


async def _show(settings: Settings, *, once: bool, interval_s: float, as_json: bool) -> None:
    with _presenter(once=once, as_json=as_json) as present:
        async for shown in pictures(settings, interval_s):
            present(shown)
            if once:
                return


async def pictures(settings: Settings, interval_s: float) -> AsyncIterator[Picture]:
    """A picture every so many seconds; the first after two looks.

    Raises:
        UsageError: an address of a worker is none.
        EvalxError: neither a worker nor the broker answers, the first time.
    """
    async with Workers(settings) as workers, Broker(settings, interval_s) as broker:
        before, looked_at = await workers.look(), time.monotonic()
        await broker.first()
        for first in itertools.chain((True,), itertools.repeat(False)):
            await asyncio.sleep(max(0.0, looked_at + interval_s - time.monotonic()))
            _heed_cancellation()
            now, at = await workers.look(), time.monotonic()
            shown = picture(now, before, at - looked_at, broker.lags, (*broker.troubles, *workers.troubles))
            if first and not shown.workers and not broker.lags:
                raise EvalxError("neither a worker nor Kafka answers: " + "; ".join(shown.troubles))
            yield shown
            before, looked_at = now, at


class Broker:
    """The lag, read by a task of its own: a broker that is away must not hold the picture up."""

    def __init__(self, settings: Settings, interval_s: float) -> None:
        self._settings = settings
        self._interval_s = interval_s
        self._read = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        #: Empty while the broker is away.
        self.lags: list[LaneLag] = []
        self.troubles: tuple[str, ...] = ("Kafka has not answered yet",)

    async def __aenter__(self) -> Broker:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *_exc: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def first(self) -> None:
        """Wait until something is known."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BROKER_TIMEOUT_S):
                await self._read.wait()

    async def _run(self) -> None:
        while True:
            try:
                async with LagReader(self._settings) as reader:
                    while True:
                        self.lags, self.troubles = by_lane(self._settings, await reader.read_all()), ()
                        await self._pause()
            except EvalxError as error:
                self.lags, self.troubles = [], (str(error),)
            await self._pause()

    async def _pause(self) -> None:
        self._read.set()
        await asyncio.sleep(self._interval_s)
        _heed_cancellation()


def _heed_cancellation() -> None:
    """Ctrl-C comes once; a client library that is just then ending a wait of its own can swallow it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@contextlib.contextmanager
def _presenter(*, once: bool, as_json: bool) -> Iterator[Callable[[Picture], None]]:
    if as_json:
        yield lambda shown: typer.echo(msgspec.json.encode(shown).decode())
    elif once:
        console = Console(width=None if sys.stdout.isatty() else PLAIN_WIDTH)
        yield lambda shown: console.print(draw(shown))
    else:
        with Live(console=Console(), screen=True, auto_refresh=False) as live:
            yield lambda shown: live.update(draw(shown), refresh=True)
