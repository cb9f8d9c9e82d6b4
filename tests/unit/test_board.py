"""The tests of a submission as a terminal shows them while they turn."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from evalx.cli.board import Board
from evalx.cli.progress import Progress
from evalx.verdicts import Verdict


def drawn(board: Board, *, width: int = 60, height: int = 24, colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system="standard" if colour else None,
        _environ={},
    )
    console.print(board)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_line_for_each_test_that_turns():
    board = Board(["1-small", "2"])
    assert [line.split() for line in drawn(board).splitlines()] == [["1-small", "."], ["2", "."], []]
    assert board.ended("2", Verdict.TLE, 2000.04)
    assert [line.split() for line in drawn(board).splitlines()][:2] == [["1-small", "."], ["2", "TLE", "2000.0", "ms"]]


def test_what_is_told_twice_counts_once_and_strangers_never():
    board = Board(["1"])
    assert board.ended("1", Verdict.JE, 1)
    assert not board.ended("1", Verdict.AC, 1)
    assert not board.ended("2", Verdict.AC, 1)
    assert "AC" in drawn(board)


def test_a_letter_for_each_of_many():
    board = Board([str(number) for number in range(100)])
    for number, verdict in enumerate(Verdict):
        board.ended(str(number), verdict, 1)
    lines = drawn(board).splitlines()
    assert "".join(lines) == "AAWTMOR?sJ" + 90 * "."
    assert len(lines[0]) == 60


@pytest.mark.parametrize(("count", "height"), [(1000, 10), (5, 3)])
def test_what_does_not_fit_is_left_out(count: int, height: int):
    assert drawn(Board([str(number) for number in range(count)]), height=height) == ""


def test_an_id_cannot_drive_the_terminal():
    board = Board(["\x1b[2Jx\ny", "[red]z"])
    assert "\x1b" not in drawn(board)
    assert "\\x1b[2Jx y" in drawn(board)
    assert "[red]z" in drawn(board)


def test_colours_are_those_of_the_table():
    board = Board(["1"])
    board.ended("1", Verdict.WA, 1)
    assert "\x1b[31mWA" in drawn(board, colour=True)


def test_where_nobody_looks_nothing_is_shown(capsys: pytest.CaptureFixture[str]):
    with Progress("working", tests=["1"]) as progress:
        assert not progress.is_live
        progress.say("still working")
        progress.ended("1", Verdict.AC, 1)
    assert capsys.readouterr() == ("", "")
