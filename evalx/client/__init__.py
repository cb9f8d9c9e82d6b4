"""For Python services: submit over Kafka and await the results.

::

    async with Client(bootstrap="localhost:9092") as client:
        result = await client.judge(submission, lane="high", timeout=30)

`docs/producing.md` says how; `evalx.client.client` how it works.
"""

from evalx.client.client import Client, Sent
from evalx.client.topics import check_topics
from evalx.errors import (
    ClientStateError,
    ConfigurationError,
    DeadLetterError,
    EvalxError,
    MessageTooLargeError,
    RejectedError,
    ResultTimeoutError,
    ServiceUnavailableError,
    TopicMissingError,
)
from evalx.messages import (
    ExactChecker,
    FloatsChecker,
    Limits,
    LinesChecker,
    Result,
    Submission,
    TestCase,
    TestResult,
    TokensChecker,
)
from evalx.verdicts import Verdict

__all__ = [
    "Client",
    "ClientStateError",
    "ConfigurationError",
    "DeadLetterError",
    "EvalxError",
    "ExactChecker",
    "FloatsChecker",
    "Limits",
    "LinesChecker",
    "MessageTooLargeError",
    "RejectedError",
    "Result",
    "ResultTimeoutError",
    "Sent",
    "ServiceUnavailableError",
    "Submission",
    "TestCase",
    "TestResult",
    "TokensChecker",
    "TopicMissingError",
    "Verdict",
    "check_topics",
]
