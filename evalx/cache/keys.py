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


class Namespace:
    """The keys of one installation. Ids are its own; what was judged or compiled is the same for all on one Redis."""

    def __init__(self, prefix: str) -> None:
        self._root = f"evalx:{VERSION}:{prefix}"

    def claim(self, submission_id: str) -> str:
        """What is known of an id: its content, who judges it, how often it was taken, how often its worker died."""
        return f"{self._root}:claim:{submission_id}"

    def done(self, submission_id: str, content: bytes) -> str:
        """What was published for an id, or is about to be."""
        return f"{self._root}:done:{submission_id}:{content.hex()}"

    def flight(self, incarnation: str) -> str:
        """The ids that a worker process has in progress."""
        return f"{self._root}:in-flight:{incarnation}"

    @property
    def deaths(self) -> str:
        """When worker processes died with several submissions in progress."""
        return f"{self._root}:deaths"


def life_key(incarnation: str) -> str:
    """Is there while a worker process lives."""
    return f"evalx:{VERSION}:life:{incarnation}"


def lease_key(result: str) -> str:
    """Who judges the batch that has this result key."""
    return f"{result}:lease"


def handover_key(result: str) -> str:
    """What came of it, for those who wait."""
    return f"{result}:handover"


def fingerprint(test: TestCase) -> bytes:
    """What makes two tests the same test: input and expected output, not the id."""
    return hashlib.sha256(_ENCODER.encode((test.stdin, test.expected_output))).digest()


def _key(kind: str, parts: object) -> str:
    return f"evalx:{VERSION}:{kind}:{hashlib.sha256(_ENCODER.encode(parts)).hexdigest()}"
