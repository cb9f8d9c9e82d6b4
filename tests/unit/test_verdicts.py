import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalx.verdicts import MEANING, OUTCOMES, VERDICT, Outcome, Verdict, of_outcome, overall

AC, OK, WA, TLE, RTE, SK, JE = (Verdict(v) for v in ("AC", "OK", "WA", "TLE", "RTE", "SK", "JE"))


def test_the_table_covers_both_sides_once():
    assert set(MEANING) == set(Verdict)
    assert set(VERDICT) == set(Outcome)
    assert sum(map(len, OUTCOMES.values())) == len(Outcome)
    assert all(VERDICT[outcome] is verdict for verdict, outcomes in OUTCOMES.items() for outcome in outcomes)


def test_outcomes_have_the_numbers_of_the_runner_protocol():
    assert [o.name for o in sorted(Outcome)] == [
        "EXITED", "SIGNALED", "CPU_LIMIT", "WALL_LIMIT", "MEMORY_LIMIT", "OUTPUT_LIMIT", "CANCELLED", "INTERNAL",
    ]  # fmt: skip
    assert [int(o) for o in Outcome] == list(range(8))


@pytest.mark.parametrize(
    ("outcome", "code", "verdict"),
    [
        (Outcome.EXITED, 0, "OK"),
        (Outcome.EXITED, 1, "RTE"),
        (Outcome.SIGNALED, 11, "RTE"),
        (Outcome.CPU_LIMIT, 9, "TLE"),
        (Outcome.WALL_LIMIT, 9, "TLE"),
        (Outcome.MEMORY_LIMIT, 0, "MLE"),
        (Outcome.OUTPUT_LIMIT, 25, "OLE"),
        (Outcome.CANCELLED, 9, "SK"),
        (Outcome.INTERNAL, 2, "JE"),
    ],
)
def test_outcome_to_verdict(outcome: Outcome, code: int, verdict: str):
    assert of_outcome(outcome, code) == verdict


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([AC, AC], AC),
        ([OK, OK], OK),
        ([OK, AC, OK], AC),
        ([AC, WA, TLE], WA),
        ([OK, TLE, WA], TLE),
        ([AC, RTE, SK, SK], RTE),
        ([JE, WA], JE),
        ([AC, JE], JE),
    ],
)
def test_overall(verdicts: list[Verdict], expected: Verdict):
    assert overall(verdicts) is expected


@given(st.lists(st.sampled_from(Verdict), min_size=1))
def test_overall_follows_the_contract(verdicts: list[Verdict]):
    failing = [v for v in verdicts if v not in (AC, OK)]
    assert overall(iter(verdicts)) == (failing[0] if failing else AC if AC in verdicts else OK)
