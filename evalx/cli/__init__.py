"""The command `evalx`: see `evalx --help`. One module for each group of commands."""

from evalx.cli.root import app, main

__all__ = ["app", "main"]
