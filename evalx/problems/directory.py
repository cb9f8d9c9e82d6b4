"""A directory of tests, and a source file that becomes a submission.

A test is `NAME.in`, what the program reads, with `NAME.ans`, what it should print; without the latter it is only run.
Names are in natural order (`2` before `10`) and become the tests' ids. What is found goes through the same strict
decoding as a message from Kafka, so both ways in have the same rules and the same explanations.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from evalx.errors import UsageError
from evalx.languages import Registry
from evalx.messages import Rules, Submission, decode_submission

INPUT_SUFFIX = ".in"
ANSWER_SUFFIX = ".ans"

_SIZE = re.compile(r"([0-9]{1,15})\s*(|k|m|g)(?:i?b)?", re.IGNORECASE)
_SCALE = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def parse_size(text: str) -> int:
    """Bytes from text such as `268435456`, `256m` or `64 KiB`; raises UsageError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"{text!r} is not a size; write bytes, or a number with k, m or g, such as 256m")
    return int(match[1]) * _SCALE[match[2].lower()]


def load_tests(directory: Path) -> list[dict[str, str]]:
    """The tests of a directory in natural order, as objects of a submission; raises UsageError."""
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory of tests")
    inputs = {path.stem: path for path in directory.iterdir() if path.suffix == INPUT_SUFFIX and path.is_file()}
    answers = {path.stem: path for path in directory.iterdir() if path.suffix == ANSWER_SUFFIX and path.is_file()}
    if not inputs:
        raise UsageError(f"{directory} has no tests; a test is NAME{INPUT_SUFFIX}, with NAME{ANSWER_SUFFIX} to compare")
    if orphans := sorted(answers.keys() - inputs.keys(), key=natural):
        raise UsageError(f"{answers[orphans[0]]} has no {orphans[0]}{INPUT_SUFFIX} beside it")
    return [read_test(name, inputs[name], answers.get(name)) for name in sorted(inputs, key=natural)]


def natural(name: str) -> list[tuple[int, str]]:
    """A key that sorts numbers within names by their value."""
    parts = re.split(r"([0-9]+)", name)
    # Every second part is a number; the name itself decides between `1` and `01`.
    return [(int(part), "") if index % 2 else (0, part) for index, part in enumerate(parts)] + [(0, name)]


def language_of(source: Path, registry: Registry) -> str:
    """The language that the file's extension stands for; raises UsageError."""
    found = registry.of_file(source.name)
    if found is None:
        raise UsageError(f"cannot tell the language of {source.name}; say it: --language {'|'.join(registry.names)}")
    return found


def make_submission(
    source: Path,
    tests: list[dict[str, str]],
    registry: Registry,
    rules: Rules,
    *,
    id: str,  # noqa: A002  the contract's name
    language: str | None = None,
    limits: dict[str, int | None] | None = None,
    **fields: Any,
) -> Submission:
    """A complete submission of a source file; fields and limits that are None are left to their defaults.

    Raises:
        UsageError: the file cannot be used.
        RejectedError: the submission would be rejected, with the field and what is allowed.
    """
    document = {
        "id": id,
        "language": registry.canonical(language) if language else language_of(source, registry),
        "code": _text(source),
        "tests": tests,
        "limits": _given(limits or {}),
        **_given(fields),
    }
    return decode_submission(msgspec.json.encode(document), rules)


def read_test(name: str, given: Path, answer: Path | None) -> dict[str, str]:
    """A test as an object of a submission; raises UsageError."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UsageError(f"the name of {str(given)!r} is not UTF-8") from None
    test = {"id": name, "stdin": _text(given)}
    if answer is not None:
        test["expected_output"] = _text(answer)
    return test


def _text(path: Path) -> str:
    try:
        # Not read_text, which would turn the line ends of another system into this one's.
        return path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
