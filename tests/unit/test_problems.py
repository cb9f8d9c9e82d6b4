"""A directory of tests and a source file become a submission, or a clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from evalx.errors import RejectedError, UsageError
from evalx.languages import Registry
from evalx.messages import Submission
from evalx.problems import load_tests, make_submission, natural, parse_size
from evalx.settings import Settings

REGISTRY = Registry.load()
RULES = REGISTRY.rules(Settings())


def write(directory: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return directory


def make(source: Path, **fields: Any) -> Submission:
    tests = [{"id": "1", "stdin": "x"}]
    return make_submission(source, tests, REGISTRY, RULES, **{"id": "s-1", **fields})


def test_inputs_with_and_without_answers_in_natural_order(tmp_path: Path):
    write(tmp_path, {"10.in": b"ten", "2.in": b"two\r\n", "2.ans": b"2\n", "notes.txt": b"", "old.in/x": b""})
    assert load_tests(tmp_path) == [
        {"id": "2", "stdin": "two\r\n", "expected_output": "2\n"},
        {"id": "10", "stdin": "ten"},
    ]


@pytest.mark.parametrize(
    "names",
    [
        ["1", "2", "10"],
        ["a1", "a2", "a10", "b1"],
        ["1-small", "2-zero", "10-large"],
        ["sample", "test-01", "test-1", "test-2"],
        ["1", "a"],
        ["²", "³"],
    ],
)
def test_natural_order(names: list[str]):
    shuffled = list(reversed(names))
    shuffled.sort(key=natural)
    assert shuffled == names


def test_numbers_are_sorted_by_value():
    assert sorted(["t10", "t9", "t1", "10", "9"], key=natural) == ["9", "10", "t1", "t9", "t10"]


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({}, "has no tests; a test is NAME.in"),
        ({"1.out": b""}, "has no tests"),
        ({"1.in": b"", "2.ans": b""}, r"2\.ans has no 2\.in beside it"),
        ({"1.in": b"ab\xff"}, r"1\.in: byte 2 is not UTF-8"),
        ({"1.in": b"", "1.ans": b"\xff"}, r"1\.ans: byte 0 is not UTF-8"),
    ],
)
def test_a_directory_that_cannot_be_used(tmp_path: Path, files: dict[str, bytes], what: str):
    with pytest.raises(UsageError, match=what):
        load_tests(write(tmp_path, files))


def test_no_directory_at_all(tmp_path: Path):
    with pytest.raises(UsageError, match="is not a directory of tests"):
        load_tests(tmp_path / "missing")


def test_a_name_that_is_not_utf8(tmp_path: Path):
    try:
        (tmp_path / "\udcff.in").write_bytes(b"")
    except (OSError, UnicodeEncodeError):
        pytest.skip("the file system has no such names")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_tests(tmp_path)


@pytest.mark.parametrize(
    ("name", "language", "version"),
    [("a.c", "c", "17"), ("a.cpp", "cpp", "17"), ("a.CC", "cpp", "17"), ("a.py", "python", "3.13"),
     ("Main.java", "java", "21"), ("a.js", "javascript", "20")],
)  # fmt: skip
def test_the_extension_tells_the_language(tmp_path: Path, name: str, language: str, version: str):
    write(tmp_path, {name: b"code"})
    submission = make(tmp_path / name)
    assert (submission.language, submission.version, submission.code) == (language, version, "code")


def test_a_language_that_is_said_wins_and_may_be_an_alias(tmp_path: Path):
    write(tmp_path, {"a.txt": b"code"})
    assert make(tmp_path / "a.txt", language="c++", version="20").language == "cpp"


def test_an_extension_that_says_nothing(tmp_path: Path):
    write(tmp_path, {"a.txt": b"code"})
    with pytest.raises(UsageError, match=r"cannot tell the language of a\.txt; say it: --language c\|"):
        make(tmp_path / "a.txt")


def test_what_is_not_given_has_its_default(tmp_path: Path):
    write(tmp_path, {"a.py": b"code"})
    submission = make(tmp_path / "a.py", limits={"cpu_time_ms": 1000, "memory_bytes": None}, version=None)
    assert (submission.limits.cpu_time_ms, submission.limits.wall_time_ms) == (1000, 4000)
    assert submission.limits.memory_bytes == 256 << 20


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"language": "cobol"}, "language"),
        ({"version": "1"}, "version"),
        ({"limits": {"cpu_time_ms": 10**9}}, "limits.cpu_time_ms"),
        ({"id": "no spaces"}, "id"),
        ({"checker": {"kind": "fuzzy"}}, "checker.kind"),
    ],
)
def test_what_a_worker_would_reject_is_rejected_here(tmp_path: Path, fields: dict[str, Any], field: str):
    write(tmp_path, {"a.py": b"code"})
    with pytest.raises(RejectedError) as caught:
        make(tmp_path / "a.py", **fields)
    assert caught.value.field == field


def test_a_source_that_is_not_utf8_or_not_there(tmp_path: Path):
    write(tmp_path, {"a.py": b"\xff"})
    with pytest.raises(UsageError, match="byte 0 is not UTF-8"):
        make(tmp_path / "a.py")
    with pytest.raises(UsageError, match="cannot be read"):
        make(tmp_path / "b.py")


@pytest.mark.parametrize(
    ("text", "size"),
    [("1", 1), ("64k", 65536), ("64 KiB", 65536), ("256m", 256 << 20), ("256MB", 256 << 20), ("1g", 1 << 30)],
)
def test_sizes(text: str, size: int):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1.5g", "1t", "٣", "9" * 30])
def test_what_is_no_size(text: str):
    with pytest.raises(UsageError, match="is not a size"):
        parse_size(text)
