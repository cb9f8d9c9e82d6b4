import pickle

import pytest

from evalx.errors import (
    ConfigurationError,
    DockerUnavailableError,
    EvalxError,
    JudgeFaultError,
    PoolExhaustedError,
    RejectedError,
    SandboxFaultError,
    ServiceUnavailableError,
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
