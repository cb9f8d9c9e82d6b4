"""What all commands need: exit codes, settings, an event loop that ends cleanly, and quiet or structured logs."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import orjson
import structlog
import typer
import uvloop

from evalx.errors import ConfigurationError, UsageError
from evalx.settings import Settings

T = TypeVar("T")

EXIT_OK = 0
EXIT_NOT_ACCEPTED = 1
EXIT_USAGE = 2
EXIT_FAULT = 3
#: 128 and the number of the signal, as a shell reports it.
EXIT_TERMINATED = 128 + signal.SIGTERM


def complain(text: str) -> None:
    """One line on stderr, whatever the text."""
    typer.echo(f"evalx: {' '.join(text.split())}", err=True)


def load_settings(**overrides: Any) -> Settings:
    """The settings of the environment; a wrong variable is wrong usage."""
    try:
        return Settings.load(**overrides)
    except ConfigurationError as error:
        raise UsageError(str(error)) from None


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; at Ctrl-C and SIGTERM the work is cancelled and cleans up before the process ends."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(_cancel_on_sigterm(work))
        except asyncio.CancelledError:
            raise typer.Exit(EXIT_TERMINATED) from None


async def _cancel_on_sigterm(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return await work


def be_quiet() -> None:
    """For commands that report by themselves: libraries say nothing, evalx only what is an error."""
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
    structlog.configure(
        processors=[structlog.processors.add_log_level, *_rendering(as_json=False)],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def log_to_stderr(settings: Settings) -> None:
    """For a worker: structured logs, one JSON object a line unless a person looks; libraries from warnings on."""
    as_json = settings.log_json or not sys.stderr.isatty()
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    rendering = _rendering(as_json)
    structlog.configure(
        processors=[*shared, *rendering],
        wrapper_class=structlog.make_filtering_bound_logger(settings.log_level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)


def _as_json(entry: Any, default: Callable[[Any], Any]) -> str:
    # A line is logged of every submission, and the standard library takes ten times as long for it.
    return orjson.dumps(entry, default=default).decode()


#: Without the values of variables, which are in structlog's tracebacks by default: submissions' code, and passwords.
_bare_traceback = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def _rendering(as_json: bool) -> list[Any]:
    if as_json:
        return [_bare_traceback, structlog.processors.JSONRenderer(_as_json)]
    colours = sys.stderr.isatty()
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback)]
