"""Cache keys: everything that a value depends on, and nothing else.

Every key carries a version: a change of what a value means never meets an old entry. The image's digest is part of
every key, so a new image never meets what an old one made.

With a secret, keys are keyed hashes: who can read Redis cannot find out whether a program that he has was judged.
Workers share what they have found out only if their secrets are the same.
"""

from __future__ import annotations

import hashlib
from functools import cached_property, lru_cache

import msgspec

from evalx.languages import Language
from evalx.messages import Submission, TestCase

VERSION = "v2"

#: Bytes of a key of BLAKE2b; a secret may be longer.
_KEY_BYTES = 64
_DIGEST_BYTES = 32
#: Fingerprints that are remembered, and characters of a test of which it is worth it: 10 MB at most.
REMEMBERED_TESTS = 8192
SMALL_TEST_CHARS = 256

_encode = msgspec.msgpack.Encoder().encode


class Keys:
    """Makes the keys of one installation; ``secret`` makes them its own."""

    def __init__(self, secret: str | None = None) -> None:
        self._secret = hashlib.blake2b(secret.encode(), digest_size=_KEY_BYTES).digest() if secret else b""
        #: Many batches have the same tests.
        self._small = lru_cache(maxsize=REMEMBERED_TESTS)(self._hash_test)
        self._languages: dict[tuple[str, str], tuple[Language, bytes]] = {}

    def digest(self, data: bytes) -> bytes:
        """32 bytes that stand for these ones."""
        return hashlib.blake2b(data, digest_size=_DIGEST_BYTES, key=self._secret).digest()

    def of(self, submission: Submission, language: Language, toolchain: str) -> BatchKeys:
        """The keys of a submission, of each of its tests and of its program."""
        return BatchKeys(self, submission, self._language(language), toolchain)

    def fingerprint(self, test: TestCase) -> bytes:
        """What makes two tests the same test: input and expected output, not the id."""
        stdin, expected = test.stdin, test.expected_output
        small = len(stdin) + len(expected or "") <= SMALL_TEST_CHARS
        return self._small(stdin, expected) if small else self._hash_test(stdin, expected)

    def _hash_test(self, stdin: str, expected: str | None) -> bytes:
        return self.digest(_encode((stdin, expected)))

    def _language(self, language: Language) -> bytes:
        """A digest of the whole definition, its flags above all."""
        name = (language.name, language.version)
        known = self._languages.get(name)
        if known is None or known[0] is not language:
            known = self._languages[name] = (language, self.digest(_encode(language)))
        return known[1]


class BatchKeys:
    """What is known of one submission is found under these; each is worked out when it is first asked for."""

    def __init__(self, keys: Keys, submission: Submission, language: bytes, toolchain: str) -> None:
        self._keys = keys
        self._submission = submission
        self._compiled_by = (toolchain, language)

    @cached_property
    def tests(self) -> tuple[bytes, ...]:
        """What makes two tests the same test, in the submission's order."""
        return tuple(map(self._keys.fingerprint, self._submission.tests))

    @cached_property
    def result(self) -> str:
        """The whole batch. Ids and order of the tests do not matter, unless a failing test stops those after it."""
        stops = self._submission.stop_on_failure
        tests = self.tests if stops else sorted(self.tests)
        return self._named("result", (self._judged_by, stops, b"".join(tests)))

    @cached_property
    def artifact(self) -> str:
        """The compiled program."""
        return self._named("artifact", (self._compiled_by, self._submission.code))

    def test(self, fingerprint: bytes) -> str:
        """The result of one test of this program under these limits."""
        return self._named("test", (self._judged_by, fingerprint))

    @cached_property
    def _judged_by(self) -> bytes:
        """What the verdict of a test depends on, besides the test."""
        one = self._submission
        return self._keys.digest(_encode((self._compiled_by, one.code, one.limits, one.checker)))

    def _named(self, level: str, parts: object) -> str:
        return f"evalx:{VERSION}:{level}:{self._keys.digest(_encode(parts)).hex()}"


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
