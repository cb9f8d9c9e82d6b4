"""A judgement that is kept is found again for exactly what it was made of, and all of them are bounded by bytes."""

from __future__ import annotations

from evalx.agents.ready import LARGEST_BYTES, TIMES, Form, Ready
from evalx.engine import Judgement
from evalx.metrics import CACHE_MEMORY_BYTES
from evalx.verdicts import Verdict

FORM = Form(b"packed", ("1", "2"), (b"a", b"b"))


def judgement() -> Judgement:
    return Judgement(verdict=Verdict.AC, compile=None, tests=(), toolchain="image", source="result_cache")


def test_only_the_very_same_answer_for_the_very_same_tests_is_found():
    ready, kept = Ready(), judgement()
    ready.put("key", FORM, kept, 100)
    assert ready.get("key", Form(b"packed", ("1", "2"), (b"a", b"b"))) is kept
    assert ready.get("key", FORM._replace(packed=b"other")) is None
    assert ready.get("key", FORM._replace(ids=("2", "1"))) is None
    assert ready.get("key", FORM._replace(fingerprints=(b"b", b"a"))) is None
    assert ready.get("other", FORM) is None


def test_what_was_used_longest_ago_makes_room():
    ready = Ready(max_bytes=250)
    for key in "ab":
        ready.put(key, FORM, judgement(), 100)
    assert ready.get("a", FORM) is not None
    ready.put("c", FORM, judgement(), 100)
    assert [ready.get(key, FORM) is not None for key in "abc"] == [True, False, True]


def test_what_is_replaced_counts_once_and_what_is_too_large_is_not_kept():
    ready = Ready()
    for _ in range(5):
        ready.put("key", FORM, judgement(), 100)
    counted = {sample.labels["level"]: sample.value for sample in next(iter(CACHE_MEMORY_BYTES.collect())).samples}
    assert counted["ready"] == 100 * TIMES
    ready.put("key", FORM, judgement(), LARGEST_BYTES + 1)
    assert ready.get("key", FORM) is None
