"""The command line's root: which commands there are, and how each of them fails.

An error on purpose (`evalx.errors`) becomes one line on stderr and an exit code: 2 when the caller can do better, 3
when a service or the judge itself failed. Anything else is a defect; it becomes one line too, and a trace on request.
"""

from __future__ import annotations

import errno
import os
import traceback
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import evalx
from evalx.cli import judging, lag, letters, operation, samples, top
from evalx.cli.running import EXIT_FAULT, EXIT_USAGE, complain
from evalx.errors import EvalxError, RejectedError, UsageError


class ErrorsAsLines(TyperGroup):
    """Runs a command and turns what it raises into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except RejectedError as error:
            complain(f"{error.field}: {error}" if error.field else str(error))
            raise typer.Exit(EXIT_USAGE) from None
        except UsageError as error:
            complain(str(error))
            raise typer.Exit(EXIT_USAGE) from None
        except EvalxError as error:
            complain(str(error))
            raise typer.Exit(EXIT_FAULT) from None
        except Exception as error:
            if _is_not_ours(error):
                raise
            _complain_of_defect(error)
            raise typer.Exit(EXIT_FAULT) from None


app = typer.Typer(
    name="evalx",
    cls=ErrorsAsLines,
    help="Judges code submissions: compile once, run every test in a pooled sandbox, lose nothing.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"evalx {evalx.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    # The module's errors are lines of their own; a log of the libraries would only repeat them.
    pass


judging.register(app)
operation.register(app)
lag.register(app)
letters.register(app)
top.register(app)
samples.register(app)


def main() -> None:
    """The entry point of the command."""
    app(prog_name="evalx")


def _is_not_ours(error: Exception) -> bool:
    """Wrong usage, a deliberate exit and a closed pipe are for typer to handle."""
    typer_knows = isinstance(error, typer.Exit | typer.Abort) or hasattr(error, "format_message")
    return typer_knows or (isinstance(error, OSError) and error.errno == errno.EPIPE)


def _complain_of_defect(error: Exception) -> None:
    if os.environ.get("EVALX_LOG_LEVEL") == "debug":
        traceback.print_exception(error)
    complain(f"internal error, please report it: {error!r} (EVALX_LOG_LEVEL=debug shows where)")
