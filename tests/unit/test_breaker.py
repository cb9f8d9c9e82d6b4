"""When a failed thing is tried again."""

from __future__ import annotations

from evalx.sandbox.breaker import Breaker


def test_a_closed_one_admits_everything():
    breaker = Breaker(1, 8)
    assert breaker.is_closed
    assert all(breaker.admits(0) for _ in range(5))


def test_pauses_double_up_to_the_longest():
    breaker, now, pauses = Breaker(1, 8), 0.0, []
    for _ in range(6):
        breaker.failed(now, now, "why")
        pauses.append(breaker.waits(now))
        now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 8, 8]


def test_one_try_at_a_time_while_open():
    breaker = Breaker(1, 8)
    breaker.failed(0, 0, "why")
    assert not breaker.admits(0.9)
    assert breaker.admits(1)
    assert not breaker.admits(1)
    assert breaker.admits(2), "the first try may never come back"
    breaker.succeeded()
    assert (breaker.is_closed, breaker.reason, breaker.admits(2), breaker.admits(2)) == (True, "", True, True)


def test_what_began_before_it_opened_is_the_same_failure():
    breaker = Breaker(1, 8)
    for end in (10.0, 10.1, 10.2):
        breaker.failed(9.0, end, "why")
    assert (breaker.failures, breaker.waits(10.0)) == (1, 1)


def test_an_outage_of_days_does_not_overflow():
    breaker = Breaker(0.5, 30)
    for now in range(5000):
        breaker.failed(now, now, "why")
    assert breaker.waits(4999) == 30
