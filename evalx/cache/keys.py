"""Cache keys. Every key carries a version: a change of what a value means never meets an old entry."""

from __future__ import annotations

import hashlib

import msgspec

from evalx.languages import Language
from evalx.messages import Submission, TestCase

_ENCODER = msgspec.msgpack.Encoder()

VERSION = "v1"


def result_key(submission: Submission, toolchain: str) -> str:
    """The key of a whole batch: everything that its verdicts depend on, and nothing else.

    Ids and order of the tests do not matter, unless a failing test stops those after it.
    """
    tests = [fingerprint(test) for test in submission.tests]
    if not submission.stop_on_failure:
        tests.sort()
    parts = (
        toolchain,
        submission.language,
        submission.version,
        submission.code,
        submission.limits,
        submission.checker,
        submission.stop_on_failure,
        tests,
    )
    return _key("result", parts)


def artifact_key(language: Language, toolchain: str, code: str) -> str:
    """The key of a compiled program; the whole language definition is part of it, its flags above all."""
    return _key("artifact", (toolchain, language, code))


def claim_key(submission_id: str) -> str:
    """The key of what is known of a submission's id: its content and how often it was taken."""
    return f"evalx:{VERSION}:claim:{submission_id}"


def fingerprint(test: TestCase) -> bytes:
    """What makes two tests the same test: input and expected output, not the id."""
    return hashlib.sha256(_ENCODER.encode((test.stdin, test.expected_output))).digest()


def _key(kind: str, parts: object) -> str:
    return f"evalx:{VERSION}:{kind}:{hashlib.sha256(_ENCODER.encode(parts)).hexdigest()}"
