import pickle

import pytest

from evalx.errors import (
    ClientStateError,
    ConfigurationError,
    DeadLetterError,
    DockerUnavailableError,
    EvalxError,
    JudgeFaultError,
    MessageTooLargeError,
    PoolExhaustedError,
    RejectedError,
    ResultTimeoutError,
    SandboxFaultError,
    ServiceUnavailableError,
    TopicMissingError,
)

ALL = [
    EvalxError("m"),
    RejectedError("not_json", "m", "tests[3].id"),
    JudgeFaultError("odd", "m"),
    SandboxFaultError(),
    DockerUnavailableError(),
    PoolExhaustedError(),
    ConfigurationError(),
    ServiceUnavailableError("Kafka", "localhost:9092", "start it"),
    MessageTooLargeError(2, 1),
    DeadLetterError("s-1", "conflict", "used before", "id", ("a result",)),
    TopicMissingError("evalx.results"),
    ResultTimeoutError("s-1", 2.5, ("evalx.submissions", 4, 17)),
    ResultTimeoutError("s-1", 2.5),
    ClientStateError(),
]


@pytest.mark.parametrize("error", ALL, ids=lambda e: type(e).__name__)
def test_every_error_has_the_root_and_a_message_and_survives_a_pickle(error: EvalxError):
    assert isinstance(error, EvalxError)
    assert str(error)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


def test_the_docstring_is_the_default_message():
    assert str(DockerUnavailableError()) == "The Docker daemon does not answer"
    assert str(DockerUnavailableError(message="timeout")) == "timeout"


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (JudgeFaultError, "judge_fault"),
        (SandboxFaultError, "sandbox_fault"),
        (DockerUnavailableError, "docker_unavailable"),
        (PoolExhaustedError, "pool_exhausted"),
    ],
)
def test_faults_of_ours_have_codes(kind: type[JudgeFaultError], code: str):
    assert kind().code == code
    assert issubclass(kind, JudgeFaultError)


def test_an_unreachable_service_says_where_and_what_to_do():
    assert str(ServiceUnavailableError("Kafka", "h:1", "start it")) == "Kafka at h:1 cannot be reached: start it"
    assert str(ServiceUnavailableError("Kafka", "h:1")) == "Kafka at h:1 cannot be reached"


def test_a_timeout_says_what_is_known_of_the_submission():
    known = ResultTimeoutError("s-1", 2.5, ("evalx.submissions", 4, 17))
    assert known.confirmed
    assert "no result for s-1 within 2.5 s; it is on evalx.submissions, partition 4, offset 17" in str(known)
    unknown = ResultTimeoutError("s-1", 2.5)
    assert not unknown.confirmed
    assert "the broker has not confirmed it" in str(unknown)


def test_a_dead_letter_says_why():
    assert (
        str(DeadLetterError("s-1", "conflict", "used before", "id")) == "s-1 was not judged: id: used before (conflict)"
    )
    assert str(DeadLetterError("s-1", "poison", "3 deaths")) == "s-1 was not judged: 3 deaths (poison)"
