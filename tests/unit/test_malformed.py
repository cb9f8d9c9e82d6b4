"""Messages that cannot be judged: the code, the field and, where one can be read, the id."""

import json
import tracemalloc
from typing import Any

import pytest
from messages_examples import MINIMAL, RULES, raw, submission

from evalx.errors import RejectedError
from evalx.messages import decode_submission, peek_id
from evalx.messages.large import LARGE_BYTES

GOOD = raw(MINIMAL)


def spliced(field: str, text: bytes) -> bytes:
    """A good submission with one field in JSON that no encoder would write."""
    return GOOD[:-1] + b', "' + field.encode() + b'": ' + text + b"}"


def processes(digits: bytes) -> bytes:
    return spliced("limits", b'{"processes": ' + digits + b"}")


CASES: dict[str, tuple[bytes | None, str, str | None, str | None]] = {
    "no value": (None, "empty_message", None, None),
    "empty": (b"", "empty_message", None, None),
    "white space": (b"  \n", "not_json", None, None),
    "not JSON": (b"hello", "not_json", None, None),
    "truncated": (GOOD[:-5], "not_json", None, None),
    "trailing text": (GOOD + b" {}", "not_json", None, None),
    "single quotes": (GOOD.replace(b'"', b"'"), "not_json", None, None),
    "trailing comma": (GOOD[:-1] + b",}", "not_json", None, None),
    "NaN": (spliced("metadata", b"NaN"), "not_json", None, None),
    "byte order mark": (b"\xef\xbb\xbf" + GOOD, "not_json", None, None),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not_utf8", None, None),
    "invalid UTF-8 in a text": (GOOD.replace(b"int", b"\xff\xfe"), "not_utf8", None, "s-1"),
    "invalid UTF-8 outside": (b"\xc3\x28", "not_utf8", None, None),
    "UTF-8 of a surrogate": (GOOD.replace(b"int", b"\xed\xa0\x80"), "not_utf8", None, "s-1"),
    "lone surrogate": (GOOD.replace(b"int", rb"\ud800"), "not_json", None, None),
    "line feed in a text": (GOOD.replace(b"int", b"\n"), "not_json", None, None),
    "bomb of brackets": (b"[" * 1_000_000, "not_json", None, None),
    "deep in a field": (spliced("metadata", b"[" * 100_000), "not_json", None, None),
    "an array": (b"[]", "wrong_type", None, None),
    "a text": (b'"x"', "wrong_type", None, None),
    "null": (b"null", "wrong_type", None, None),
    "a number": (b"1", "wrong_type", None, None),
    "no field at all": (b"{}", "missing_field", "id", None),
    "no id": (raw(submission(id=...)), "missing_field", "id", None),
    "bad id": (raw(submission(id="a b")), "invalid_value", "id", None),
    "id with a line feed": (raw(submission(id="a\n")), "invalid_value", "id", None),
    "id a number": (raw(submission(id=7)), "wrong_type", "id", None),
    "no tests": (raw(submission(tests=[])), "invalid_value", "tests", "s-1"),
    "tests an object": (raw(submission(tests={"1": {}})), "wrong_type", "tests", "s-1"),
    "test null": (raw(submission(tests=[{}, None])), "wrong_type", "tests[1]", "s-1"),
    "code null": (raw(submission(code=None)), "wrong_type", "code", "s-1"),
    "code an array": (raw(submission(code=["a"])), "wrong_type", "code", "s-1"),
    "version a number": (raw(submission(version=17)), "wrong_type", "version", "s-1"),
    "unknown field": (raw(submission(langauge="c")), "unknown_field", "langauge", "s-1"),
    "unknown field in a test": (raw(submission(tests=[{}, {"input": ""}])), "unknown_field", "tests[1].input", "s-1"),
    "unknown language": (raw(submission(language="cobol")), "unknown_language", "language", "s-1"),
    "unknown version": (raw(submission(version="98")), "unknown_version", "version", "s-1"),
    "900 digits": (processes(b"9" * 900), "limit_exceeded", "limits.processes", "s-1"),
    "9000 digits": (processes(b"9" * 9000), "invalid_value", "limits.processes", "s-1"),
    "-900 digits": (processes(b"-" + b"9" * 900), "invalid_value", "limits.processes", "s-1"),
    "900 digits of a tolerance": (spliced("checker", b'{"kind": "floats", "abs_tol": ' + b"9" * 900 + b"}"),
                                  "invalid_value", "checker.abs_tol", "s-1"),
    "huge exponent": (spliced("limits", b'{"memory_bytes": 1e999}'), "invalid_value", "limits.memory_bytes", "s-1"),
    "infinite tolerance": (spliced("checker", b'{"kind": "floats", "abs_tol": 1e999}'), "invalid_value",
                           "checker.abs_tol", "s-1"),
    "limit over the maximum": (raw(submission(limits={"cpu_time_ms": 30001})), "limit_exceeded", "limits.cpu_time_ms",
                               "s-1"),
    "duplicate id of a test": (raw(submission(tests=[{"id": "a"}] * 2)), "duplicate_test_id", "tests[1].id", "s-1"),
    "too many tests": (raw(submission(tests=[{}] * 1001)), "too_many_tests", "tests", "s-1"),
    "too much code": (raw(submission(code="x" * 300_000)), "code_too_large", "code", "s-1"),
    "too much metadata": (raw(submission(metadata={"a": "x" * 5000})), "metadata_too_large", "metadata", "s-1"),
}  # fmt: skip


@pytest.mark.parametrize(("message", "code", "field", "readable_id"), CASES.values(), ids=CASES)
def test_malformed(message: bytes | None, code: str, field: str | None, readable_id: str | None):
    with pytest.raises(RejectedError) as caught:
        decode_submission(message, RULES)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert 0 < len(caught.value.message) < 500
    assert caught.value.__cause__ is None
    assert peek_id(message) == readable_id


@pytest.mark.parametrize(
    ("message", "code", "field"),
    [case[:3] for case in CASES.values() if case[0]],
    ids=[n for n, c in CASES.items() if c[0]],
)
def test_malformed_and_large(message: bytes, code: str, field: str | None):
    """The same code and field, found without building what the message describes."""
    with pytest.raises(RejectedError) as caught:
        decode_submission(b" " * LARGE_BYTES + message, RULES)
    assert (caught.value.code, caught.value.field) == (code, field)
    assert 0 < len(caught.value.message) < 500
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("message", "code"),
    [
        pytest.param(raw(submission(tests=[{}] * 300_000)), "too_many_tests", id="tests"),
        pytest.param(
            raw(submission(metadata={f"{n}": "" for n in range(100_000)})), "metadata_too_large", id="metadata"
        ),
        pytest.param(raw([[]] * 300_000), "wrong_type", id="arrays"),
        pytest.param(raw(submission(code=[[]] * 300_000)), "wrong_type", id="arrays in a field"),
        pytest.param(raw(submission(unknown=[[]] * 300_000)), "unknown_field", id="arrays in an unknown field"),
        pytest.param(raw({f"{n}": 1 for n in range(100_000)}), "unknown_field", id="fields"),
    ],
)
def test_a_large_message_is_refused_without_building_what_it_describes(message: bytes, code: str):
    """What is built costs time in which the worker does nothing else, and memory: here at least 5 MB if it is."""
    tracemalloc.start()
    try:
        with pytest.raises(RejectedError) as caught:
            decode_submission(message, RULES)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code == code
    assert peak < 1 << 20


def test_a_large_message_that_is_right():
    tests = [{"stdin": "x" * 1000, "expected_output": '{"a": [1,'} for _ in range(1000)]
    whole = decode_submission(raw(submission(tests=tests, metadata={"é" * 500: "ü" * 500})), RULES)
    assert (len(whole.tests), whole.tests[999].id) == (1000, "1000")


def test_a_repeated_key_counts_with_its_last_value():
    assert decode_submission(spliced("code", b'"last"'), RULES).code == "last"


def test_messages_say_what_was_wrong_and_what_is_allowed():
    assert said(limits={"processes": "4"}) == "expected a whole number without a fraction or exponent, got a text"
    assert said(limits={"processes": 65}) == "65 is over the maximum of 64"
    assert said(cache="refesh") == "'refesh' is not one of 'bypass', 'refresh', 'use' (did you mean 'refresh'?)"
    assert said(id="ä") == "'ä' is not 1 to 128 of A-Z a-z 0-9 . _ : -"
    assert said(language="pyton") == (
        "no language 'pyton' (did you mean 'python'?); known: c, cpp, python, java, javascript"
    )


def test_long_values_are_not_repeated_in_full():
    for changes in ({"id": "é" * 100_000}, {"language": "x" * 100_000}, {"version": "x" * 100_000}, {"x" * 100_000: 1}):
        with pytest.raises(RejectedError) as caught:
            decode_submission(raw(submission(**changes)), RULES)
        assert len(caught.value.message) < 400
        assert len(caught.value.field or "") < 100
        with pytest.raises(RejectedError) as caught:
            decode_submission(b" " * LARGE_BYTES + raw(submission(**changes)), RULES)
        assert len(caught.value.message) < 400
        assert len(caught.value.field or "") < 100


def said(**changes: Any) -> str:
    with pytest.raises(RejectedError) as caught:
        decode_submission(raw(submission(**changes)), RULES)
    return caught.value.message


def test_an_id_is_read_whatever_else_is_wrong():
    assert peek_id(json.dumps({"nonsense": [1], "id": "s-9"}).encode()) == "s-9"
