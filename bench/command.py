"""What the commands of all benches have in common: progress, options, how they end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import aiohttp
import msgspec

from evalx.errors import EvalxError

T = TypeVar("T")

EXIT_WRONG, EXIT_FAILED, EXIT_STOPPED = 1, 2, 130
#: Why a bench cannot go on; anything else is a fault of its own.
FAILURES = (EvalxError, RuntimeError, OSError, subprocess.SubprocessError, aiohttp.ClientError)


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def numbers(text: str) -> tuple[int, ...]:
    """`1,2,4` as numbers, for argparse."""
    values = tuple(int(part) for part in text.split(","))
    if min(values) < 1:
        raise ValueError(text)
    return values


def positive(text: str) -> int:
    """A whole number from 1, for argparse."""
    return numbers(text)[0]


@contextlib.contextmanager
def stopped_by_sigterm() -> Iterator[None]:
    """SIGTERM ends what is in it as Ctrl-C does, so that no container is left behind."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def conclude(
    measure: Callable[[], T],
    show: Callable[[T], str],
    json: Path | None,
    *,
    wrong: Callable[[T], object],
    encode: Callable[[T], bytes] = msgspec.json.encode,
) -> int:
    """Measure, print the report, write it to ``json`` as well if that is given; the exit code."""
    try:
        with stopped_by_sigterm():
            done = measure()
    except FAILURES as error:
        say(f"bench: {error}")
        return EXIT_FAILED
    except (KeyboardInterrupt, asyncio.CancelledError):
        say("bench: stopped")
        return EXIT_STOPPED
    print(show(done))
    if json is not None:
        json.write_bytes(msgspec.json.format(encode(done)))
    return EXIT_WRONG if wrong(done) else 0
