"""What was decoded is found again for the very same value, and bounded by bytes."""

from __future__ import annotations

from evalx.cache.decoded import Decoded


def test_the_same_value_brings_the_same_object():
    decoded: Decoded[list[int]] = Decoded()
    value, known = b"x" * 100, [1]
    decoded.put("key", value, known)
    assert decoded.get("key", value) is known
    assert decoded.get("key", bytes(bytearray(value))) is None
    assert decoded.get("other", value) is None


def test_what_was_used_longest_ago_makes_room():
    decoded: Decoded[int] = Decoded(max_bytes=250)
    values = {key: key.encode() * 100 for key in "abc"}
    decoded.put("a", values["a"], 1)
    decoded.put("b", values["b"], 2)
    assert decoded.get("a", values["a"]) == 1
    decoded.put("c", values["c"], 3)
    assert [decoded.get(key, value) for key, value in values.items()] == [1, None, 3]


def test_a_value_is_counted_once_and_one_that_is_too_large_not_kept():
    decoded: Decoded[int] = Decoded(max_bytes=250)
    small, large = b"s" * 100, b"l" * 300
    for _ in range(5):
        decoded.put("small", small, 1)
    decoded.put("other", bytes(100), 2)
    assert decoded.get("small", small) == 1
    decoded.put("large", large, 3)
    assert decoded.get("large", large) is None
