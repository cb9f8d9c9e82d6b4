"""What is shown on stderr while something takes its time; nothing at all when nobody looks."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar

from evalx.cli.board import Board
from evalx.verdicts import Verdict


class Progress:
    """A spinner with a text and the time; with ``total``, or the ids of ``tests``, a bar too. Gone when the block ends.

    Unless it is to be ``compact``, tests are shown as they turn.
    """

    def __init__(
        self, text: str, total: int | None = None, tests: Sequence[str] = (), *, compact: bool = False
    ) -> None:
        console = Console(stderr=True)
        total = len(tests) if tests else total
        counted = () if total is None else (BarColumn(bar_width=30), MofNCompleteColumn())
        # Markup off: file names and ids are shown as they are.
        self._bar = Bar(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            *counted,
            TimeElapsedColumn(),
            console=console,
            auto_refresh=False,
        )
        self._task = self._bar.add_task(text, total=total)
        self._board = Board(tests)
        #: Whether somebody looks.
        self.is_live = console.is_terminal and console.is_interactive
        shown = Group(self._bar) if compact else Group(self._bar, self._board)
        self._live = Live(shown, console=console, transient=True, refresh_per_second=10)

    def say(self, text: str) -> None:
        """Change the text."""
        self._bar.update(self._task, description=text)

    def step(self) -> None:
        """One more is done."""
        self._bar.advance(self._task)

    def ended(self, test_id: str, verdict: Verdict, cpu_time_ms: float) -> None:
        """A test has ended; one that is none of ``tests``, or was told of before, is passed over."""
        if self._board.ended(test_id, verdict, cpu_time_ms):
            self.step()

    def __enter__(self) -> Self:
        if self.is_live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.is_live:
            self._live.stop()
