"""Everything that evalx raises on purpose, in one tree.

::

    EvalxError
    +-- RejectedError              the submission cannot be judged: dead letter, `rejected` result
    +-- JudgeFaultError            our fault: the submission is tried again, then `judge_error`
    |   +-- SandboxFaultError      a container died, broke the protocol or was left dirty
    |   +-- DockerUnavailableError the daemon does not answer
    |   +-- PoolExhaustedError     no container became free in time
    +-- ConfigurationError         an operator's mistake: the process says so and stops
    +-- UsageError                 what a command was given cannot be used
    +-- ServiceUnavailableError    Kafka, Redis ... cannot be reached
    +-- ResultTimeoutError         no result came in the time that the caller had
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

    `id` is the submission's, `seconds` how long was waited. The submission is not lost: its result may still come.
    """

    def __init__(self, id: str, seconds: float) -> None:  # noqa: A002  the contract's name
        super().__init__(f"no result for {id} within {seconds:g} s")
        self.id = id
        self.seconds = seconds

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.id, self.seconds)


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
