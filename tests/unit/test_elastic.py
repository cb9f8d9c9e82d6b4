"""How many containers there should be: growth, shrinking, the floor, the allowance."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalx.sandbox.elastic import CALM_S, RECENT_S, STEP_S, Bounds, Elastic, Usage

IMAGES = ("c", "java", "python")


def make(images: tuple[str, ...] = IMAGES, allowance: int = 12, **bounds: Any) -> Elastic:
    chosen = {"floor": 3, "useful": 4, "scale_up": 0.9, "scale_down": 0.1, **bounds}
    return Elastic(images, Bounds(**chosen), allowance)


def targets(elastic: Elastic) -> list[int]:
    return [elastic.target(image) for image in elastic._targets]


def look(elastic: Elastic, now: float, **utilisation: float) -> list[int]:
    """One tick in which all targets have been reached."""
    elastic.tick(now, {image: Usage(elastic.target(image), utilisation.get(image, 0.0)) for image in elastic._targets})
    return targets(elastic)


def test_the_floor_is_kept_from_the_first_look():
    elastic = make(floor=5)
    elastic.warm(["python"])
    assert targets(elastic) == [0, 0, 1]
    assert look(elastic, 1) == [2, 2, 1]


def test_a_floor_smaller_than_the_images_is_that_of_the_ones_used_last():
    elastic = make(floor=1)
    assert look(elastic, 0) == [1, 0, 0]
    elastic.used("java", 1)
    elastic.needed("java", 1)
    assert look(elastic, 2, java=0.5) == [1, 1, 0]
    assert look(elastic, 2 + CALM_S + STEP_S) == [0, 1, 0]
    assert look(elastic, 1000) == [0, 1, 0]


def test_without_a_floor_nothing_is_kept():
    elastic = make(floor=0)
    elastic.needed("c", 3)
    for now in range(100):
        look(elastic, now)
    assert targets(elastic) == [0, 0, 0]


def test_it_grows_above_the_threshold_up_to_what_can_be_busy():
    elastic = make()
    assert look(elastic, 1, c=0.9) == [1, 1, 1], "at the threshold"
    grown = [look(elastic, now, c=1.0)[0] for now in range(2, 8)]
    assert grown == [2, 3, 4, 4, 4, 4]


def test_growth_waits_for_what_was_decided_before():
    elastic = make()
    for now in range(5):
        elastic.tick(now, {"c": Usage(1, 1.0)})
    assert elastic.target("c") == 2


def test_between_the_thresholds_nothing_moves():
    elastic = make()
    elastic.needed("c", 4)
    for now in range(500):
        assert look(elastic, now, c=0.11 + 0.78 * (now % 2)) == [4, 1, 1]


def test_it_shrinks_by_halves_after_a_calm_time():
    elastic = make(useful=128, allowance=256)
    elastic.needed("c", 129)
    seen = [(now, look(elastic, now, c=0.5 if now == 0 else 0.0)[0]) for now in range(60)]
    assert all(count == 129 for now, count in seen if now < 1 + CALM_S)
    steps = [now for (now, count), (_, before) in zip(seen[1:], seen, strict=False) if count < before]
    assert steps[0] == 1 + CALM_S
    assert all(later - earlier == STEP_S for earlier, later in itertools.pairwise(steps))
    assert seen[46][1] == 1, "from 129 to 1 within 46 s"


def test_a_short_use_begins_the_calm_anew():
    elastic = make()
    elastic.needed("c", 3)
    for now in range(100):
        look(elastic, now, c=0.5 if now % int(CALM_S) == 0 else 0.0)
    assert elastic.target("c") == 3


def test_one_that_is_used_now_and_then_keeps_a_container():
    """Else each of its batches would wait for a start."""
    elastic = make(floor=0)
    for now in range(200):
        if now % 20 == 0 and now < 150:
            elastic.used("c", now)
            elastic.needed("c", 1)
        look(elastic, now, c=0.01)
        assert elastic.target("c") == (1 if now < 140 + RECENT_S else 0)


def test_a_full_pool_takes_from_calm_images_for_busy_ones():
    elastic = make(allowance=6, floor=0, useful=6)
    elastic.needed("java", 3)
    elastic.needed("python", 3)
    elastic.used("python", 90)
    elastic.needed("c", 0)
    elastic.tick(100, {"c": Usage(0, 0.0), "java": Usage(3, 0.0), "python": Usage(3, 1.0)})
    assert targets(elastic) == [0, 2, 4]


def test_growth_takes_nobodys_last_one_that_was_used_lately():
    elastic = make(allowance=3, useful=4)
    look(elastic, 0)
    for image in IMAGES:
        elastic.used(image, 5)
    assert look(elastic, 6, c=1.0) == [1, 1, 1]
    assert look(elastic, 6 + RECENT_S, c=1.0) == [2, 0, 1]


def test_demand_takes_from_the_one_used_longest_ago():
    elastic = make()
    for now, image in enumerate(("java", "c", "python")):
        elastic.used(image, now)
    assert elastic.victim({"c": 1, "python": 1}, "java") == "c"
    assert elastic.victim({"c": 1, "python": 2}, "java") == "python", "it has another one"
    assert elastic.victim({"c": 2, "java": 2, "python": 2}, "java") == "c"
    assert elastic.victim({"java": 2}, "java") is None
    assert elastic.victim({}, "java") is None


def test_a_smaller_allowance_is_obeyed_at_once_calm_ones_first():
    elastic = make()
    elastic.needed("c", 4)
    look(elastic, 1, c=0.5)
    elastic.allow(4)
    assert targets(elastic) == [4, 0, 0]
    elastic.allow(2)
    assert targets(elastic) == [2, 0, 0]
    elastic.allow(12)
    assert look(elastic, 2, c=0.5) == [2, 1, 1]


@pytest.mark.parametrize("load", [0.0, 0.05, 0.1, 0.5, 0.9])
def test_a_steady_load_ends_in_a_steady_pool(load: float):
    elastic = make(useful=16, allowance=32)
    elastic.needed("c", 16)
    for now in range(120):
        look(elastic, now, c=load)
    settled = targets(elastic)
    for now in range(120, 240):
        assert look(elastic, now, c=load) == settled


@given(
    floor=st.integers(0, 12),
    useful=st.integers(1, 8),
    events=st.lists(
        st.tuples(
            st.sampled_from(["tick", "allow", "use", "move"]),
            st.sampled_from(IMAGES),
            st.integers(1, 20),
            st.lists(st.floats(0, 1), min_size=3, max_size=3),
            st.floats(0.01, 60),
        ),
        max_size=60,
    ),
)
def test_whatever_happens_the_allowance_and_the_floor_hold(floor: int, useful: int, events: list[Any]):
    elastic, now, allowance = make(floor=floor, useful=useful), 0.0, 12
    for what, image, number, loads, pause in events:
        now += pause
        if what == "allow":
            allowance = number
            elastic.allow(allowance)
        elif what == "use":
            elastic.used(image, now)
            if elastic.total < allowance:
                elastic.needed(image, elastic.target(image) + 1)
        elif what == "move":
            elastic.moved(image)
        else:
            before = elastic.total
            look(elastic, now, **dict(zip(IMAGES, loads, strict=True)))
            assert elastic.total >= min(floor, allowance)
            assert elastic.total <= max(allowance, before)
        assert all(target >= 0 for target in targets(elastic))
        assert elastic.total <= allowance
    quiet = now + 200
    for second in range(60):
        look(elastic, quiet + second)
    assert elastic.total == min(floor, allowance), "back at the floor within a minute"
