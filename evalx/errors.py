"""Everything that evalx raises on purpose, in one tree.

::

    EvalxError
    +-- RejectedError              the submission cannot be judged: dead letter, `rejected` result
    |   +-- MessageTooLargeError   it is larger than Kafka takes
    +-- DeadLetterError            the submission was sent, and came back without a verdict
    +-- JudgeFaultError            our fault: the submission is tried again, then `judge_error`
    |   +-- SandboxFaultError      a container died, broke the protocol or was left dirty
    |   +-- DockerUnavailableError the daemon does not answer
    |   +-- PoolExhaustedError     no container became free in time
    +-- ConfigurationError         an operator's mistake: the process says so and stops
    |   +-- TopicMissingError      a topic does not exist
    +-- UsageError                 what a command was given cannot be used
    +-- ServiceUnavailableError    Kafka, Redis ... cannot be reached
    +-- ResultTimeoutError         no result came in the time that the caller had
    +-- ClientStateError           a client is used before it is connected, or after it was closed
    +-- RequestError               the gateway refuses an HTTP request

The line that opens a class's docstring is its message when none is given.
"""

from __future__ import annotations

from typing import Literal

RejectionCode = Literal[
    "empty_message",
    "not_utf8",
    "not_json",
    "unknown_field",
    "missing_field",
    "wrong_type",
    "invalid_value",
    "unknown_language",
    "unknown_version",
    "limit_exceeded",
    "code_too_large",
    "duplicate_test_id",
    "too_many_tests",
    "metadata_too_large",
    "conflict",
]
"""Why a submission was rejected. Stable: other services branch on it."""


class EvalxError(Exception):
    """Something in evalx went wrong."""

    def __init__(self, message: str | None = None) -> None:
        self.message = message or self._default_message()
        super().__init__(self.message)

    @classmethod
    def _default_message(cls) -> str:
        # `python -OO` strips docstrings; an error must still say something.
        return (cls.__doc__ or cls.__name__).strip().splitlines()[0].rstrip(".")

    def __str__(self) -> str:
        return self.message


class RejectedError(EvalxError):
    """The submission cannot be judged.

    `field` is the path of the offending value, such as `tests[3].id`; None when it is the message as a whole.
    """

    def __init__(self, code: RejectionCode, message: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.code: RejectionCode = code
        self.field = field

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message, self.field)


class MessageTooLargeError(RejectedError):
    """The submission is larger than Kafka takes.

    `size` and `most` are bytes of its JSON. Give it fewer or smaller tests, or split it into several submissions.
    """

    def __init__(self, size: int, most: int) -> None:
        super().__init__(
            "invalid_value",
            f"{size} bytes of JSON, one message may have {most}; give it fewer or smaller tests, or split the tests"
            " over several submissions",
        )
        self.size = size
        self.most = most

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.size, self.most)


class DeadLetterError(EvalxError):
    """The submission came back without a verdict; it is on the topic of dead letters.

    `id` is the submission's; `code` (stable) and `reason` are those of the dead letter; `field` is the path of the
    offending value, None when the fault is ours. `result` is the whole `Result`: its status is `rejected` or
    `judge_error`.
    """

    def __init__(self, id: str, code: str, reason: str, field: str | None = None, result: object = None) -> None:  # noqa: A002
        where = f"{field}: " if field else ""
        super().__init__(f"{id} was not judged: {where}{reason} ({code})")
        self.id = id
        self.code = code
        self.reason = reason
        self.field = field
        self.result = result

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.id, self.code, self.reason, self.field, self.result)


class JudgeFaultError(EvalxError):
    """The judge failed, not the program that was judged.

    `code` is stable snake_case; it becomes the error code of the result when no retry is left.
    """

    default_code = "judge_fault"

    def __init__(self, code: str | None = None, message: str | None = None) -> None:
        super().__init__(message)
        self.code = code or self.default_code

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.code, self.message)


class SandboxFaultError(JudgeFaultError):
    """A sandbox container died, broke the protocol or was left dirty."""

    default_code = "sandbox_fault"


class DockerUnavailableError(JudgeFaultError):
    """The Docker daemon does not answer."""

    default_code = "docker_unavailable"


class PoolExhaustedError(JudgeFaultError):
    """No sandbox container became free in time."""

    default_code = "pool_exhausted"


class ConfigurationError(EvalxError):
    """The configuration is wrong."""


class TopicMissingError(ConfigurationError):
    """A topic does not exist; `topic` is its name."""

    def __init__(self, topic: str) -> None:
        super().__init__(f"there is no topic {topic}; create it with `evalx topics create`")
        self.topic = topic

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.topic,)


class UsageError(EvalxError):
    """What the command was given cannot be used."""


class ServiceUnavailableError(EvalxError):
    """A service that evalx needs cannot be reached.

    `service` is its name ("Kafka"), `address` where it was looked for, `hint` what to do about it.
    """

    def __init__(self, service: str, address: str, hint: str = "") -> None:
        super().__init__(f"{service} at {address} cannot be reached" + (f": {hint}" if hint else ""))
        self.service = service
        self.address = address
        self.hint = hint

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.service, self.address, self.hint)


class ResultTimeoutError(EvalxError):
    """No result came in time.

    `id` is the submission's, `seconds` how long was waited. `place` is (topic, partition, offset) of the record that
    the broker has confirmed: it is not lost, and its result may still come. None = it is not known whether the broker
    has taken it; to submit it again with the same id does no harm.
    """

    def __init__(self, id: str, seconds: float, place: tuple[str, int, int] | None = None) -> None:  # noqa: A002
        known = "the broker has not confirmed it; to submit it again with the same id does no harm"
        if place is not None:
            topic, partition, offset = place
            known = f"it is on {topic}, partition {partition}, offset {offset}, and its result may still come"
        super().__init__(f"no result for {id} within {seconds:g} s; {known}")
        self.id = id
        self.seconds = seconds
        self.place = place

    @property
    def confirmed(self) -> bool:
        """Whether the broker has confirmed the submission."""
        return self.place is not None

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.id, self.seconds, self.place)


class ClientStateError(EvalxError):
    """The client is used before it is connected, or after it was closed."""


class RequestError(EvalxError):
    """The request cannot be served.

    `status` is the HTTP status; `retry_after_s`, in whole seconds, says when to try again, None that it is no use.
    """

    def __init__(self, status: int, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.status, self.message, self.retry_after_s)
