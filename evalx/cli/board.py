"""The tests of a submission as they turn: a line for each while they fit, else a letter for each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from evalx.cli.show import milliseconds, one_line, printable, style_of
from evalx.verdicts import Verdict

#: Tests that have a line of their own; more than this nobody reads while they turn.
MOST_LINES = 20
#: Lines of a terminal that are left to others: the bar above, the prompt below.
OTHER_LINES = 3
#: Characters of an id that are shown.
ID_CHARS = 40
#: A test that has not ended.
WAITING = "."
#: What stands for a verdict where there is one character: told apart without colour, too.
_LETTER = {
    Verdict.AC: "A",
    Verdict.OK: "A",
    Verdict.WA: "W",
    Verdict.TLE: "T",
    Verdict.MLE: "M",
    Verdict.OLE: "O",
    Verdict.RTE: "R",
    Verdict.SK: "s",
    Verdict.JE: "J",
}


class Board:
    """Tests by id, in order; rich draws it."""

    def __init__(self, ids: Sequence[str]) -> None:
        self._ended: dict[str, tuple[Verdict, float] | None] = dict.fromkeys(ids)

    def ended(self, test_id: str, verdict: Verdict, cpu_time_ms: float) -> bool:
        """A test has ended; whether that was news. What is told may come twice."""
        if test_id not in self._ended:
            return False
        is_news = self._ended[test_id] is None
        self._ended[test_id] = (verdict, cpu_time_ms)
        return is_news

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if len(self._ended) <= min(MOST_LINES, options.size.height - OTHER_LINES):
            yield self._lines()
        elif len(self._ended) <= (options.size.height - OTHER_LINES) * options.max_width:
            yield self._letters()

    def _lines(self) -> Text:
        names = [one_line(printable(test_id))[:ID_CHARS] for test_id in self._ended]
        width = max(map(len, names), default=0)
        text = Text(no_wrap=True, overflow="crop")
        for name, end in zip(names, self._ended.values(), strict=True):
            text.append(f"  {name.ljust(width)}  ")
            if end is None:
                text.append(WAITING, style="dim")
            else:
                text.append(f"{end[0]:<3}", style=style_of(end[0]))
                text.append(f"  {milliseconds(end[1])} ms", style="dim")
            text.append("\n")
        return text

    def _letters(self) -> Text:
        # Folded at the width of the terminal: one long word.
        text = Text(overflow="fold")
        for end in self._ended.values():
            if end is None:
                text.append(WAITING, style="dim")
            else:
                text.append(_LETTER.get(end[0], "?"), style=style_of(end[0]))
        return text
