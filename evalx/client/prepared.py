"""A submission as it is sent: checked by the rules that the workers have, before anything leaves the process."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from evalx.errors import MessageTooLargeError, RejectedError
from evalx.messages import Rules, Submission, decode_submission, encode_submission

#: Bytes that Kafka needs in a record besides the value: the id, headers, and what frames a batch of one.
RECORD_OVERHEAD_BYTES = 1024
#: How a default that depends on another value looks as long as it is not filled in. Inside of a text these bytes
#: cannot occur, since its quotation marks are escaped.
_PLACEHOLDERS = (b'"id":""', b'"version":""', b'"wall_time_ms":0')


class Prepared(msgspec.Struct, frozen=True):
    """The message of a submission; ``content`` stands for what is in it."""

    id: str
    value: bytes
    content: bytes


def prepare(submission: object, rules: Rules, max_bytes: int) -> Prepared:
    """The message that is sent, in which what has its default in the contract is left to the worker.

    Raises:
        RejectedError: it would come back rejected, with the field and what is allowed.
        MessageTooLargeError: it has more bytes than Kafka takes.
    """
    if not isinstance(submission, Submission):
        kind = type(submission).__name__
        raise RejectedError("wrong_type", f"a Submission is expected, not a {kind}; make one with Submission(...)")
    value = _encode(submission)
    if len(value) > max_bytes - RECORD_OVERHEAD_BYTES:
        raise MessageTooLargeError(len(value), max_bytes - RECORD_OVERHEAD_BYTES)
    checked = decode_submission(value, rules)
    _refuse_bytes(submission)
    return Prepared(checked.id, value, hashlib.blake2b(value, digest_size=16).digest())


def _encode(submission: Submission) -> bytes:
    """A default that depends on another value is left out rather than sent as its placeholder."""
    try:
        value = encode_submission(submission)
    except (TypeError, ValueError) as error:
        raise RejectedError("wrong_type", f"it cannot be written as JSON: {error}") from None
    if not any(placeholder in value for placeholder in _PLACEHOLDERS):
        return value
    document: dict[str, Any] = msgspec.json.decode(value)
    _drop_unset(document, "version")
    _drop_unset(document["limits"], "wall_time_ms")
    for test in document["tests"] if isinstance(document["tests"], list) else ():
        _drop_unset(test, "id")
    return msgspec.json.encode(document)


def _drop_unset(owner: Any, name: str) -> None:
    if isinstance(owner, dict) and owner.get(name) in ("", 0):
        del owner[name]


def _refuse_bytes(submission: Submission) -> None:
    """Bytes would have been sent as base64, and judged as such."""
    texts: list[tuple[str, Any]] = [("code", submission.code)]
    for index, test in enumerate(submission.tests):
        texts += [(f"tests[{index}].stdin", test.stdin), (f"tests[{index}].expected_output", test.expected_output)]
    for field, text in texts:
        if not isinstance(text, str | None):
            raise RejectedError("wrong_type", f"text is expected, not {type(text).__name__}; decode it", field)
