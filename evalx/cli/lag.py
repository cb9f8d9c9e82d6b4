"""`evalx lag`: what waits to be judged, as the broker sees it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Annotated

import msgspec
import typer

from evalx.agents.lag import LagReader, LaneLag, by_lane
from evalx.cli import show
from evalx.cli.running import be_quiet, load_settings, run
from evalx.errors import UsageError
from evalx.settings import Settings

#: Seconds between two looks of `--watch`.
INTERVAL_S = 2.0


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: evalx lag --partitions --watch")(lag)


def lag(
    partitions: Annotated[
        bool, typer.Option("--partitions", help="Each partition, and which worker holds it.")
    ] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    interval: Annotated[
        float, typer.Option("--interval", help="Seconds between two looks.", min=0.2, max=3600, metavar="S")
    ] = INTERVAL_S,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch one document a line.")] = False,
) -> None:
    """Show what waits at Kafka: per lane the submissions that are not finished, and the age of the oldest.

    A submission that is being judged still waits in this sense: it counts until its offset is committed.

    Exit codes: 0 done, 2 wrong usage, 3 Kafka cannot be reached.
    """
    settings = load_settings()
    be_quiet()
    if interval != INTERVAL_S and not watch:
        raise UsageError("--interval is for --watch")
    run(_look(settings, partitions=partitions, interval_s=interval if watch else None, as_json=as_json))


async def _look(settings: Settings, *, partitions: bool, interval_s: float | None, as_json: bool) -> None:
    present = _printer(partitions=partitions, as_json=as_json)
    async for lanes in _readings(settings, interval_s):
        if interval_s is not None and not as_json:
            show.clear()
        present(lanes)


async def _readings(settings: Settings, interval_s: float | None) -> AsyncIterator[list[LaneLag]]:
    async with LagReader(settings) as reader:
        while True:
            lanes = by_lane(settings, await reader.read_all())
            _heed_cancellation()
            yield lanes
            if interval_s is None:
                return
            await asyncio.sleep(interval_s)


def _heed_cancellation() -> None:
    """Ctrl-C comes once; a client library that is just then ending a wait of its own can swallow it."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


def _printer(*, partitions: bool, as_json: bool) -> Callable[[list[LaneLag]], None]:
    if as_json:
        return lambda lanes: typer.echo(msgspec.json.encode([_document(lane, partitions) for lane in lanes]).decode())
    return _partition_table if partitions else _lane_table


def _document(lane: LaneLag, partitions: bool) -> dict[str, object]:
    document: dict[str, object] = {"lane": lane.lane, "waiting": lane.waiting, "oldest_s": lane.oldest_s}
    return {**document, "partitions": msgspec.to_builtins(lane.partitions)} if partitions else document


def _lane_table(lanes: list[LaneLag]) -> None:
    show.table(("lane", "waiting", "oldest s"), [(one.lane, str(one.waiting), _age(one.oldest_s)) for one in lanes])


def _partition_table(lanes: list[LaneLag]) -> None:
    rows = [
        (
            str(one.partition),
            one.lane,
            "-" if one.committed is None else str(one.committed),
            str(one.end),
            str(one.waiting),
            _age(one.oldest_s),
            one.worker or "-",
        )
        for lane in lanes
        for one in lane.partitions
    ]
    show.table(("partition", "lane", "committed", "end", "waiting", "oldest s", "worker"), rows)


def _age(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds:.1f}"
