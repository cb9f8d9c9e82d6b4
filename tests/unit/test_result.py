"""Results: the contract's fields, outputs as text or base64, and how a large one is made to fit."""

import base64
import json
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from messages_examples import RESULT
from msgspec.structs import replace

from evalx.errors import JudgeFaultError, RejectedError, SandboxFaultError
from evalx.messages import (
    CompileReport,
    Result,
    TestResult,
    decode_result,
    encode_result,
    fit_result,
    judge_error_result,
    rejected_result,
    text_or_base64,
)
from evalx.verdicts import Verdict


def result(*tests: TestResult, **changes: Any) -> Result:
    fields: dict[str, Any] = {"id": "s-1", "status": "judged", "verdict": Verdict.AC, "lane": "normal", "worker": "w"}
    return Result(**{**fields, "tests": tests, **changes})


def ran(stdout: str = "", stderr: str = "", **changes: Any) -> TestResult:
    return TestResult(id="1", verdict=Verdict.AC, stdout=stdout, stderr=stderr, **changes)


def test_the_example_of_the_contract_has_the_same_fields_in_the_same_order():
    encoded = encode_result(decode_result(orjson.dumps(RESULT)))
    assert encoded == orjson.dumps(RESULT)


def test_every_field_is_written_even_if_it_is_null():
    document = json.loads(encode_result(result(ran())))
    assert list(document) == list(RESULT)
    assert list(document["tests"][0]) == list(RESULT["tests"][0])
    compiled = json.loads(encode_result(result(compile=CompileReport(exit_code=None))))["compile"]
    assert list(compiled) == list(RESULT["compile"])
    assert compiled["exit_code"] is None


def test_a_reader_of_results_ignores_fields_of_later_versions():
    assert decode_result(orjson.dumps({**RESULT, "later": 1})).id == "s-1"


def test_rejected():
    error = RejectedError("unknown_field", "no field of this name", "lang")
    document = json.loads(encode_result(rejected_result("s-1", error, lane="high", worker="w:1", attempt=2)))
    assert list(document) == list(RESULT)
    assert (document["status"], document["verdict"], document["tests"]) == ("rejected", None, [])
    assert (document["compile"], document["source"], document["attempt"]) == (None, None, 2)
    assert document["error"] == {"code": "unknown_field", "message": "no field of this name", "field": "lang"}


def test_judge_error():
    fault: JudgeFaultError = SandboxFaultError(message="the container died")
    made = judge_error_result("s-1", fault, language="c", version="17", lane="low", worker="w", metadata={"a": "b"})
    document = json.loads(encode_result(made))
    assert (document["status"], document["verdict"], document["tests"]) == ("judge_error", "JE", [])
    assert document["error"] == {"code": "sandbox_fault", "message": "the container died", "field": None}
    assert document["metadata"] == {"a": "b"}


@pytest.mark.parametrize(
    ("stdout", "stderr", "expected"),
    [
        (b"", b"", ("", "", "utf-8")),
        ("é\x00".encode(), b"x", ("é\x00", "x", "utf-8")),
        (b"\xff", b"x", ("/w==", "eA==", "base64")),
        (b"x", b"\xed\xa0\x80", ("eA==", "7aCA", "base64")),
    ],
)
def test_text_or_base64(stdout: bytes, stderr: bytes, expected: tuple[str, str, str]):
    assert text_or_base64(stdout, stderr) == expected


def test_a_character_that_was_cut_does_not_make_a_text_binary():
    euro = "a€".encode()
    assert text_or_base64(euro[:-1], b"", stdout_cut=True) == ("a", "", "utf-8")
    assert text_or_base64(b"", euro[:-2], stderr_cut=True) == ("", "a", "utf-8")
    assert text_or_base64(euro[:-1], b"")[2] == "base64"
    assert text_or_base64(b"\xffa", b"", stdout_cut=True)[2] == "base64"


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_no_byte_is_lost(stdout: bytes, stderr: bytes):
    out, err, encoding = text_or_base64(stdout, stderr)
    back = base64.b64decode if encoding == "base64" else str.encode
    assert (back(out), back(err)) == (stdout, stderr)
    msgspec.json.encode((out, err))


def test_what_fits_is_not_touched():
    whole = result(ran("x" * 100))
    assert fit_result(whole, len(encode_result(whole))) is whole


@pytest.mark.parametrize("character", ["x", "\x01", '"', "\n", "é", "€", "😀", "\u2028", "\x7f", "\\"])
def test_a_result_is_cut_to_the_limit_and_little_below(character: str):
    limit = 20_000
    fitted = fit_result(result(ran(character * 100_000, character * 50_000), ran("short")), limit)
    # Two streams at the level, each short of it by less than one character, and a division's rest.
    assert limit - 2 * 6 - 4 <= len(encode_result(fitted)) <= limit
    large, small = fitted.tests
    assert large.stdout_truncated
    assert large.stderr_truncated
    assert abs(len(large.stdout) - len(large.stderr)) <= 1
    assert small == ran("short")


def test_the_largest_pays_first():
    fitted = fit_result(result(ran("a" * 10_000), ran("b" * 1000), ran("c" * 100_000)), 25_000)
    assert [len(t.stdout) for t in fitted.tests[:2]] == [10_000, 1000]
    assert [t.stdout_truncated for t in fitted.tests] == [False, False, True]
    assert len(encode_result(fitted)) == 25_000 - 1  # "true" is shorter than "false"


def test_base64_stays_decodable():
    out, err, encoding = text_or_base64(bytes(range(256)) * 400, b"\xff" * 100_000)
    fitted = fit_result(result(ran(out, err, encoding=encoding)), 30_000)
    cut = fitted.tests[0]
    assert len(encode_result(fitted)) <= 30_000
    assert base64.b64decode(cut.stdout, validate=True) == (bytes(range(256)) * 400)[: len(cut.stdout) // 4 * 3]
    assert base64.b64decode(cut.stderr, validate=True)
    assert cut.encoding == "base64"


def test_the_compilers_output_gives_way_last():
    report = CompileReport(exit_code=1, output="\x1b" * 60_000)
    fitted = fit_result(result(status="compile_error", verdict=Verdict.CE, compile=report), 10_000)
    assert fitted.compile is not None
    assert fitted.compile.output.endswith("\x1b\n[cut]")
    assert 10_000 - 6 <= len(encode_result(fitted)) <= 10_000
    kept = fit_result(result(ran("x" * 50_000), compile=CompileReport(exit_code=0, output="w" * 5000)), 10_000)
    assert kept.compile is not None
    assert len(kept.compile.output) == 5000


def test_what_cannot_fit_becomes_a_judge_error_instead_of_nothing():
    many = result(*[replace(ran(), id=str(i) * 20) for i in range(1000)], metadata={"a": "b"}, attempt=3)
    fitted = fit_result(many, 10_000)
    assert (fitted.status, fitted.verdict, fitted.attempt, fitted.metadata) == ("judge_error", "JE", 3, {"a": "b"})
    assert fitted.error is not None
    assert fitted.error.code == "result_too_large"
    assert len(encode_result(fitted)) <= 10_000


outputs = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(st.lists(st.tuples(outputs, outputs), min_size=1, max_size=6), st.integers(0, 3000))
def test_it_always_fits_and_keeps_beginnings(streams: list[tuple[str, str]], over: int):
    whole = result(*[ran(out * 3, err) for out, err in streams])
    bare = result(*[ran() for _ in streams])
    limit = len(encode_result(bare)) + over
    fitted = fit_result(whole, limit)
    assert len(encode_result(fitted)) <= limit
    for before, after in zip(whole.tests, fitted.tests, strict=True):
        for name in ("stdout", "stderr"):
            old, new = getattr(before, name), getattr(after, name)
            assert old.startswith(new)
            assert getattr(after, f"{name}_truncated") == (old != new)
    assert decode_result(encode_result(fitted)) == fitted


def test_flags_of_streams_that_were_cut_before_stay():
    fitted = fit_result(result(ran("x" * 1000, "y", stderr_truncated=True)), 900)
    assert fitted.tests[0].stderr_truncated
