"""One live line on stderr while something takes its time; nothing at all when nobody looks."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar


class Progress:
    """A spinner with a text and the time; with ``total``, a bar too. Gone when the block ends."""

    def __init__(self, text: str, total: int | None = None) -> None:
        console = Console(stderr=True)
        counted = () if total is None else (BarColumn(bar_width=30), MofNCompleteColumn())
        # Markup off: file names and ids are shown as they are.
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *counted,
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task(text, total=total)

    def say(self, text: str) -> None:
        """Change the text."""
        self._bar.update(self._task, description=text)

    def step(self) -> None:
        """One more is done."""
        self._bar.advance(self._task)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()
