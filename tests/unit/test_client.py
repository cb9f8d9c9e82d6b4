"""What of the client needs no Kafka: partitions, messages, results that are handed to those who wait."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError, RequestTimedOutError
from client_scene import Loopback, make, make_with, until
from hypothesis import given
from hypothesis import strategies as st

from evalx.client import Client
from evalx.client.prepared import prepare
from evalx.errors import (
    ClientStateError,
    ConfigurationError,
    DeadLetterError,
    EvalxError,
    MessageTooLargeError,
    RejectedError,
    ResultTimeoutError,
    ServiceUnavailableError,
    UsageError,
)
from evalx.languages import Registry
from evalx.messages import (
    ErrorInfo,
    LanguageRule,
    Limits,
    Rules,
    Submission,
    TestCase,
    decode_submission,
)
from evalx.settings import Settings
from evalx.verdicts import Verdict

RULES = Registry.load().rules(Settings())


@pytest.fixture
async def client() -> AsyncIterator[Loopback]:
    async with Loopback() as loopback:
        yield loopback


def test_the_same_id_always_goes_to_the_same_partition_of_its_lane():
    client = Client(Settings())
    # Fixed numbers: services in other languages may hash likewise, and repeats must meet their originals.
    assert [client.partition_of("s-1", lane) for lane in ("high", "normal", "low")] == [2, 6, 10]
    assert {client.partition_of(f"s-{number}", "low") for number in range(100)} == {8, 9, 10, 11}
    with pytest.raises(ConfigurationError, match="no lane 'urgent'; there are: high, normal, low"):
        client.partition_of("s-1", "urgent")


async def test_an_incomplete_submission_is_sent_without_placeholders(client: Loopback):
    await client.submit(make())
    ((_, _, value),) = client.produced
    document = msgspec.json.decode(value)
    assert "version" not in document
    assert "wall_time_ms" not in document["limits"]
    assert document["tests"][0] == {"stdin": "1", "expected_output": None}
    assert [test.id for test in decode_submission(value, RULES).tests] == ["1", "2"]


async def test_a_complete_submission_is_sent_as_it_is(client: Loopback):
    complete = decode_submission(msgspec.json.encode({"id": "s-1", "language": "c", "code": "", "tests": [{}]}), RULES)
    await client.submit(complete)
    assert decode_submission(client.produced[0][2], RULES) == complete


texts = st.one_of(st.text(max_size=20), st.sampled_from(['"id":""', '\\"version":""', '"wall_time_ms":0', ""]))
submissions = st.builds(
    Submission,
    id=st.sampled_from(["s-1", "", "a b"]),
    language=st.sampled_from(["c", "python", "cobol", ""]),
    version=st.sampled_from(["", "17", "3.13"]),
    code=texts,
    tests=st.lists(st.builds(TestCase, id=st.sampled_from(["", "1", "a"]), stdin=texts), max_size=3).map(tuple),
    limits=st.builds(Limits, cpu_time_ms=st.sampled_from([1, 2000, 10**9]), wall_time_ms=st.sampled_from([0, 7000])),
    metadata=st.dictionaries(st.sampled_from(["id", "version", "wall_time_ms"]), texts, max_size=2),
)


def judged_by(submission: Submission) -> Submission | tuple[str, str | None]:
    """What a worker makes of a submission whose defaults were never spelt out, or why it rejects it."""
    document = msgspec.to_builtins(submission)
    fields = [
        (document, "version"),
        (document["limits"], "wall_time_ms"),
        *((test, "id") for test in document["tests"]),
    ]
    for owner, name in fields:
        if not owner[name]:
            del owner[name]
    try:
        return decode_submission(msgspec.json.encode(document), RULES)
    except RejectedError as error:
        return error.code, error.field


@given(submissions)
def test_what_is_sent_is_judged_as_it_was_meant(submission: Submission):
    expected = judged_by(submission)
    try:
        prepared = prepare(submission, RULES, 1 << 24)
    except RejectedError as error:
        assert (error.code, error.field) == expected  # noqa: PT017
    else:
        assert decode_submission(prepared.value, RULES) == expected


@pytest.mark.parametrize("wrong", ["", "a b", "x" * 129, "é"])
async def test_an_id_that_no_result_could_carry_is_refused(client: Loopback, wrong: str):
    with pytest.raises(RejectedError) as caught:
        await client.submit(make(wrong))
    assert caught.value.field == "id"
    assert client.produced == []


@pytest.mark.parametrize(
    ("wrong", "code", "field"),
    [
        ({"id": "s-1"}, "wrong_type", None),
        (make_with(language="cobol"), "unknown_language", "language"),
        (make_with(version="1"), "unknown_version", "version"),
        (make_with(tests=()), "invalid_value", "tests"),
        (make_with(tests=({"stdin": "1"}, {"input": "2"})), "unknown_field", "tests[1].input"),
        (make_with(tests=(TestCase(stdin=b"1"),)), "wrong_type", "tests[0].stdin"),
        (make_with(code=b"print(1)"), "wrong_type", "code"),
        (make_with(code=object()), "wrong_type", None),
        (make_with(code="\ud800"), "wrong_type", None),
        (make_with(code="x" * (256 * 1024 + 1)), "code_too_large", "code"),
        (make_with(metadata={"k": "v" * 5000}), "metadata_too_large", "metadata"),
    ],
)
async def test_what_a_worker_would_reject_is_not_sent(client: Loopback, wrong: Any, code: str, field: str | None):
    for send in (client.submit, client.judge):
        with pytest.raises(RejectedError) as caught:
            await send(wrong)
        assert (caught.value.code, caught.value.field) == (code, field)
    assert client.produced == []
    assert len(client._waiting) == 0


async def test_rules_of_the_workers_may_be_given():
    rules = Rules(languages={"cobol": LanguageRule("85", ("85",))})
    client = Loopback()
    client._rules = rules
    async with client:
        await client.submit(make_with(language="cobol"))
    assert len(client.produced) == 1


async def test_what_kafka_does_not_take_is_not_sent():
    async with Loopback(max_message_bytes=1 << 20) as client:
        with pytest.raises(MessageTooLargeError, match="fewer or smaller tests") as caught:
            await client.submit(make_with(tests=(TestCase(stdin="x" * (1 << 20)),)))
        assert client.produced == []
    assert caught.value.size > caught.value.most
    assert isinstance(caught.value, RejectedError)


async def test_progress_is_asked_for_with_a_header(client: Loopback):
    await client.submit(make("s-1"))
    await client.submit(make("s-2"), progress=True)
    assert [headers.get("evalx-progress") for headers in client.headers] == [None, b"1"]


async def test_a_result_reaches_everyone_who_waits_for_its_id(client: Loopback):
    first, second, other = [await client.submit(make(name)) for name in ("s-1", "s-1", "s-2")]
    client.answer("s-1")
    assert (await first.result(1)).id == (await second.result(1)).id == "s-1"
    with pytest.raises(ResultTimeoutError, match=r"no result for s-2 within 0\.01 s") as caught:
        await other.result(0.01)
    assert caught.value.place == ("evalx.submissions", other.partition, 2)
    client.answer("s-2")
    assert (await other.result(1)).id == "s-2", "who has waited in vain may wait again"


async def test_a_result_is_the_answer_to_the_record_that_it_names(client: Loopback):
    """Without this, the one of two whose content was refused would take the other's verdict for its own."""
    sent = await client.submit(make())
    client.answer("s-1", place=(sent.partition, 99))
    client.reject("s-1", place=(sent.partition, 0))
    assert (await sent.outcome(1)).status == "rejected"


async def test_a_result_may_be_read_before_the_confirmation(client: Loopback):
    client.gate.clear()
    task = asyncio.create_task(client.judge(make(), timeout=5))
    await until(lambda: len(client.produced) == 1)
    client.reject("s-1", place=(6, 99))
    client.answer("s-1", place=(6, 0))
    client.gate.set()
    assert (await task).verdict is Verdict.OK


async def test_one_id_with_two_contents_is_refused_while_it_is_under_way(client: Loopback):
    sent = await client.submit(make())
    with pytest.raises(RejectedError, match="under way with other content") as caught:
        await client.submit(make_with(code="other"))
    assert caught.value.code == "conflict"
    sent.forget()
    await client.submit(make_with(code="other"))


async def test_a_dead_letter_is_an_error_with_its_code_and_reason(client: Loopback):
    task = asyncio.create_task(client.judge(make(), timeout=5))
    await until(lambda: len(client.produced) == 1)
    client.reject("s-1")
    with pytest.raises(DeadLetterError) as caught:
        await task
    error = caught.value
    assert (error.id, error.code, error.reason, error.field) == ("s-1", "conflict", "used before", "id")
    assert error.result.status == "rejected"


async def test_a_fault_of_ours_is_one_too(client: Loopback):
    sent = await client.submit(make())
    client.answer("s-1", status="judge_error", verdict=Verdict.JE, error=ErrorInfo("poison", "3 deaths"))
    with pytest.raises(DeadLetterError, match=r"s-1 was not judged: 3 deaths \(poison\)"):
        await sent.result(1)
    assert (await sent.outcome(1)).verdict is Verdict.JE


async def test_a_compile_error_is_a_verdict(client: Loopback):
    sent = await client.submit(make())
    client.answer("s-1", status="compile_error", verdict=Verdict.CE)
    assert (await sent.result(1)).verdict is Verdict.CE


async def test_a_timeout_before_the_confirmation_says_so(client: Loopback):
    client.gate.clear()
    with pytest.raises(ResultTimeoutError, match="the broker has not confirmed it") as caught:
        await client.judge(make(), timeout=0.01)
    assert not caught.value.confirmed
    assert len(client._waiting) == 0


async def test_a_broker_that_is_away(client: Loopback):
    client.refusal = ServiceUnavailableError("Kafka", "here", "why")
    with pytest.raises(ServiceUnavailableError):
        await client.judge(make())
    assert len(client._waiting) == 0


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (KafkaConnectionError(), ServiceUnavailableError),
        (RequestTimedOutError(), ServiceUnavailableError),
        (OSError("no route"), ServiceUnavailableError),
        (MessageSizeTooLargeError(), MessageTooLargeError),
    ],
)
async def test_what_a_producer_raises(refusal: Exception, error: type[EvalxError]):
    class Refusing:
        async def send_and_wait(self, *_args: Any, **_options: Any) -> None:
            raise refusal

    client = Client(Settings())
    client._producer = Refusing()
    with pytest.raises(error):
        await client._produce("s-1", 4, b"{}", [])


async def test_results_that_cannot_be_read(client: Loopback):
    class Away:
        async def start(self) -> None:
            raise KafkaConnectionError("gone")

        async def stop(self) -> None:
            stopped.append(self)

    stopped: list[Any] = []
    client._new_consumer = Away  # type: ignore[method-assign, assignment]
    with pytest.raises(ServiceUnavailableError, match="gone"):
        await anext(client.results())
    assert len(stopped) == 1


async def test_who_is_cancelled_leaves_nothing_behind(client: Loopback):
    tasks = [asyncio.create_task(client.judge(make(f"s-{number}"))) for number in range(3)]
    await until(lambda: len(client.produced) == 3)
    assert len(client._waiting) == 3
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    assert all(task.cancelled() for task in tasks)
    assert len(client._waiting) == 0


async def test_who_drops_what_was_sent_leaves_nothing_behind(client: Loopback):
    for number in range(100):
        await client.submit(make(f"s-{number}"))
    gc.collect()
    assert len(client._waiting) == 0


async def test_a_repeat_is_not_noticed(client: Loopback):
    sent = await client.submit(make())
    client.answer("s-1", attempt=1)
    client.answer("s-1", attempt=2)
    assert (await sent.result(1)).attempt == 1
    client.answer("s-1", attempt=3)
    assert (await sent.result(1)).attempt == 1


async def test_results_of_others_and_damaged_ones_are_passed_over(client: Loopback):
    sent = await client.submit(make())
    client.read(None, None)
    client.read(b"\xff", b"{}")
    client.read(b"s-other", b"not looked at")
    client.read(b"s-1", b"not json")
    client.read(b"s-1", b"\xff")
    client.answer("s-1")
    assert (await sent.result(1)).id == "s-1"


# --- held wrongly


async def test_without_async_with():
    client = Loopback()
    for call in (client.submit(make()), client.judge(make()), anext(client.judge_all([])), anext(client.results())):
        with pytest.raises(ClientStateError, match="use it inside of `async with"):
            await call


async def test_after_it_was_closed():
    client = Loopback()
    async with client:
        sent = await client.submit(make())
    with pytest.raises(ClientStateError, match="closed before the result came"):
        await sent.result(1)
    for call in (client.submit(make()), client.judge(make()), anext(client.judge_all([])), anext(client.results())):
        with pytest.raises(ClientStateError, match="was closed"):
            await call
    with pytest.raises(ClientStateError, match="entered once"):
        async with client:
            pass


async def test_in_another_loop(client: Loopback):
    with pytest.raises(ClientStateError, match="another event loop"):
        await asyncio.to_thread(lambda: asyncio.run(client.submit(make())))


async def test_wrong_arguments(client: Loopback):
    with pytest.raises(ConfigurationError, match="no lane 'urgent'"):
        await client.judge(make(), lane="urgent")
    with pytest.raises(ConfigurationError, match="no lane 'urgent'"):
        await anext(client.judge_all([make()], lane="urgent"))
    with pytest.raises(UsageError, match="1 or more"):
        await anext(client.judge_all([make()], at_most=0))
    with pytest.raises(ConfigurationError, match="bootstrap="):
        Client("localhost:9092")  # type: ignore[arg-type]
    assert len(client._waiting) == 0


@pytest.mark.parametrize("error", [OSError("gone"), ZeroDivisionError("gone")])
async def test_a_reader_that_dies_is_told_to_those_who_wait(client: Loopback, error: Exception):
    class Broken:
        def __aiter__(self) -> Broken:
            return self

        async def __anext__(self) -> Any:
            raise error

    sent = await client.submit(make())
    await client._read(Broken())
    with pytest.raises(EvalxError, match="gone"):
        await sent.result(1)
    with pytest.raises(EvalxError, match="gone"):
        await client.submit(make())


async def test_no_broker_is_one_clear_error():
    with pytest.raises(ServiceUnavailableError, match="is it running"):
        async with Client(bootstrap="127.0.0.1:1"):
            pass
