"""The Python client against a real Kafka and a real worker."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from integration_stack import EVALX, LANES, ROOT, Topics, program

from evalx.client import (
    Client,
    DeadLetterError,
    Result,
    ResultTimeoutError,
    Submission,
    TestCase,
    TopicMissingError,
    Verdict,
)
from evalx.messages import LanguageRule, Rules, decode_result
from evalx.settings import Settings

#: Seconds after which a result will not come any more.
HANG_S = 120.0


def settings_of(topics: Topics) -> Settings:
    return Settings.load(kafka_bootstrap=topics.services.kafka, topic_prefix=topics.prefix)


def client_of(topics: Topics, **options: Any) -> Client:
    return Client(settings_of(topics), **options)


def make(topics: Topics, case: str = "sum", **fields: Any) -> Submission:
    tests = (TestCase(stdin="1 2\n", expected_output="3\n"),)
    given = {"id": topics.new_id(), "language": "python", "code": program("python", case), "tests": tests, **fields}
    return Submission(**given)


@pytest.mark.parametrize("lane", LANES)
async def test_judge(topics: Topics, lane: str):
    async with client_of(topics) as client:
        result = await client.judge(make(topics), lane=lane, timeout=HANG_S)
        sent = await client.submit(make(topics), lane=lane)
        assert (await sent.result(HANG_S)).verdict is Verdict.AC
    assert (result.verdict, result.lane) == (Verdict.AC, lane)
    assert sent.partition in LANES[lane]
    assert sent.offset is not None


async def test_many_with_few_under_way(topics: Topics):
    pulled, taken = 0, 0

    def source() -> Iterator[Submission]:
        nonlocal pulled
        for number in range(40):
            pulled += 1
            right = f"{number + 1}\n" if number % 4 else "wrong"
            yield make(topics, tests=(TestCase(stdin=f"{number} 1\n", expected_output=right),))

    results: dict[str, Result] = {}
    async with client_of(topics) as client:
        async for result in client.judge_all(source(), lane="low", timeout=HANG_S, at_most=6):
            taken += 1
            assert pulled - taken <= 6
            results[result.id] = result
    assert len(results) == taken == 40
    assert sum(result.verdict is Verdict.WA for result in results.values()) == 10


async def test_a_dead_letter_is_an_error(topics: Topics):
    rules = Rules(languages={"cobol": LanguageRule("85", ("85",))})
    async with client_of(topics, rules=rules) as client:
        sent = await client.submit(make(topics, language="cobol"))
        with pytest.raises(DeadLetterError, match="no language 'cobol'") as caught:
            await sent.result(HANG_S)
    letter = await topics.dead_letter(sent.partition, sent.offset or 0)
    assert caught.value.code == letter.headers["evalx-error-code"].decode() == "unknown_language"
    assert caught.value.reason == letter.headers["kafka_dlt-exception-message"].decode()
    assert caught.value.field == "language"


async def test_one_id_with_two_contents_has_an_answer_for_each(topics: Topics):
    """Both results have the same key; without the place in their headers the loser would take the winner's."""
    first = make(topics)
    second = make(topics, id=first.id, code="print('other')")
    async with client_of(topics) as one, client_of(topics) as other:
        answers = await asyncio.gather(
            one.judge(first, timeout=HANG_S), other.judge(second, timeout=HANG_S), return_exceptions=True
        )
    # Both are on one partition, and whichever came first is judged.
    (refused,) = (answer for answer in answers if isinstance(answer, DeadLetterError))
    (judged,) = (answer for answer in answers if isinstance(answer, Result))
    assert refused.code == "conflict"
    assert judged.verdict is (Verdict.AC if answers[0] is judged else Verdict.WA)


async def test_several_clients_see_their_own_results(topics: Topics):
    async def judge(number: int) -> list[tuple[str, str]]:
        submissions = [make(topics, metadata={"client": str(number)}) for _ in range(10)]
        async with client_of(topics) as client:
            results = [one async for one in client.judge_all(submissions, timeout=HANG_S)]
        assert {one.id for one in results} == {one.id for one in submissions}
        return [(one.metadata["client"], str(one.verdict)) for one in results]

    for number, found in enumerate(await asyncio.gather(*map(judge, range(3)))):
        assert found == [(str(number), "AC")] * 10


async def test_results_without_repeats(topics: Topics):
    repeated, last = make(topics), make(topics)
    async with client_of(topics) as client:
        for _ in range(3):
            await client.judge(repeated, timeout=HANG_S)
        await topics.published(repeated.id, 3)
        sent = await client.submit(last)
        seen: list[str] = []
        async with asyncio.timeout(HANG_S), contextlib.aclosing(client.results()) as results:
            async for result in results:
                seen.append(result.id)
                if {repeated.id, last.id} <= set(seen):
                    break
        assert seen.count(repeated.id) == 1
        assert (await sent.result(HANG_S)).verdict is Verdict.AC
        older = contextlib.aclosing(client.results(from_beginning=True))
        async with asyncio.timeout(HANG_S), older as results:
            first = await anext(results)
    assert first.id == (await topics.result(first.id))["id"], "it is one of those that were published before"


@pytest.fixture(scope="module")
async def unread(open_topics: Callable[..., Topics]) -> AsyncIterator[Topics]:
    """Topics that no worker reads."""
    async with open_topics("unread") as topics:
        yield topics


async def test_a_timeout_says_where_the_submission_is(unread: Topics):
    async with client_of(unread) as client:
        sent = await client.submit(make(unread))
        with pytest.raises(ResultTimeoutError, match="it is on") as caught:
            await sent.result(0.1)
        assert caught.value.place == (unread.submissions, sent.partition, sent.offset)
        assert await unread.end(sent.partition) == (sent.offset or 0) + 1


async def test_topics_that_do_not_exist(topics: Topics):
    settings = settings_of(topics).model_copy(update={"topic_prefix": f"{topics.prefix}.missing"})
    with pytest.raises(TopicMissingError, match="evalx topics create") as caught:
        async with Client(settings):
            pass
    assert caught.value.topic == f"{topics.prefix}.missing.submissions"


PACKAGE = ROOT / "tests" / "data" / "packages" / "different"


@pytest.mark.parametrize(("program", "code"), [("accepted/sum.py", 0), ("wrong_answer/product.py", 1)])
async def test_a_problem_package_is_submitted(topics: Topics, program: str, code: int):
    arguments = ["submit", str(PACKAGE / "submissions" / program), "--problem", str(PACKAGE), "--json"]
    process = await asyncio.create_subprocess_exec(
        EVALX, *arguments, env={**os.environ, **topics.environment()}, stdout=subprocess.PIPE
    )
    output, _ = await process.communicate()
    result = decode_result(output)
    assert (process.returncode, result.verdict) == (code, Verdict.WA if code else Verdict.AC)
    assert [test.id for test in result.tests][:4] == ["sample/1", "sample/2", "secret/000", "secret/01-small/a"]
    assert [test.verdict for test in result.tests].count(Verdict.AC) == (3 if code else 7)


EXAMPLES = {
    f"{document}-{number}": block
    for document in ("README.md", "docs/producing.md")
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.DOTALL))
    if "evalx.client" in block
}


@pytest.mark.parametrize("example", EXAMPLES)
async def test_examples_in_documents_work_as_printed(topics: Topics, example: str, monkeypatch: pytest.MonkeyPatch):
    code = EXAMPLES[example].replace("localhost:9092", topics.services.kafka)
    monkeypatch.setenv("EVALX_TOPIC_PREFIX", topics.prefix)
    printed = io.StringIO()

    def run() -> None:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, example, "exec"), {"__name__": "example"})

    await asyncio.to_thread(run)
    assert "AC" in printed.getvalue()
