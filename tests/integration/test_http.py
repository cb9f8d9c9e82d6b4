"""The gateway on real Kafka and Redis, judged by the worker that the other tests share."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from integration_stack import EVALX, Document, Services, Topics, eventually, program
from running_gateway import RunningGateway, running

from evalx.gateway.entries import Entry, Ticket, finished
from evalx.gateway.shelf import Shelf
from evalx.settings import Settings

SUM = program("python", "sum")
SECRET = "a secret of some length"
#: Seconds that are more than enough; a bound for hangs.
WAIT = "?wait=120"


@pytest.fixture(scope="module")
async def gateway(topics: Topics) -> AsyncIterator[RunningGateway]:
    async with running(topics, webhook_secret=SECRET, webhook_allow_private=True) as gateway:
        yield gateway


async def test_a_submission_is_judged_and_its_result_can_be_fetched(gateway: RunningGateway):
    document = {"language": "python", "code": SUM, "tests": [{"stdin": "1 2\n", "expected_output": "3\n"}]}
    status, result = await gateway.post(f"/v1/submissions{WAIT}&priority=high", document)
    assert (status, result["verdict"], result["lane"]) == (200, "AC", "high")
    assert await gateway.get(f"/v1/submissions/{result['id']}") == (200, result)


async def test_the_original_routes(gateway: RunningGateway):
    status, answer = await gateway.post(
        "/execute", {"language": "python", "version": "3.9", "code": SUM, "stdin": "1 2\n"}
    )
    assert status == 200
    assert (answer["results"], answer["language"], answer["version"]) == (None, "python", "3.13")
    assert answer["status"] in ("Queued", "Processing")
    done = await eventually(lambda: completed(gateway, answer["token"]), "completed")
    (row,) = done["results"]
    assert (row["stdout"], row["stderr"], row["exit_code"], row["compile_time"]) == ("3\n", None, 0, None)
    assert row["space_consumed"].endswith(" KB")

    batch = [{"language": "c", "version": "11", "code": program("c", "sum"), "stdin": "1 2"}, {"stdin": "3 4"}]
    for path in ("/execute-batch", "/execute/batch"):
        status, answer = await gateway.post(path + WAIT, batch)
        assert (status, answer["status"], answer["version"]) == (200, "Completed", "17")
        assert [row["stdout"] for row in answer["results"]] == ["3\n", "7\n"]
        assert answer["results"][0]["compile_time"] > 0

    several = [{"language": "python", "code": SUM, "stdin": "5 6"}, {"language": "c", "code": "int main("}]
    status, rows = await gateway.post("/execute-parallel", several)
    assert status == 200
    assert [(row["stdout"], row["verdict"]) for row in rows] == [("11\n", "OK"), (None, "CE")]
    assert "main.c" in rows[1]["stderr"]


async def completed(gateway: RunningGateway, token: str) -> Document | None:
    status, answer = await gateway.get(f"/submissions/{token}")
    assert status == 200
    return answer if answer["status"] == "Completed" else None


#: The second test ends some seconds after the first one.
SLOW = "import time\ntext = input()\ntime.sleep(3 if text == 'slow' else 0)\nprint(text)\n"
LIVE = {
    "language": "python",
    "code": SLOW,
    "tests": [{"id": "fast", "stdin": "fast"}, {"id": "slow", "stdin": "slow"}],
    "limits": {"wall_time_ms": 60_000},
    "cache": "bypass",
}


async def events(gateway: RunningGateway, submission_id: str) -> AsyncIterator[tuple[str, Document]]:
    async with gateway.session.get(f"/v1/submissions/{submission_id}/events") as response:
        assert response.content_type == "text/event-stream"
        name = ""
        async for line in response.content:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


async def test_a_test_is_told_of_while_its_batch_runs(gateway: RunningGateway):
    _, accepted = await gateway.post("/v1/submissions", LIVE)
    told: list[str] = []
    async for name, data in events(gateway, accepted["id"]):
        told.append(data["id"] if name == "test" else name)
        if told[-1] == "fast":
            status, answer = await gateway.get(f"/v1/submissions/{accepted['id']}")
            assert (status, answer["status"]) == (202, "processing")
    assert [one for one in told if one != "status"] == ["fast", "slow", "result"]


async def test_the_socket_tells_of_results(gateway: RunningGateway):
    async with gateway.session.ws_connect("/ws") as socket:
        _, answer = await gateway.post("/execute", {"language": "python", "code": SUM, "stdin": "7 8"})
        async for message in socket:
            document = message.json()
            if (document["id"], document["status"]) == (answer["token"], "Completed"):
                assert document["results"][0]["stdout"] == "15\n"
                return
    raise AssertionError("the socket was closed")


async def test_a_webhook_is_called(gateway: RunningGateway):
    called: asyncio.Future[tuple[str, str, bytes]] = asyncio.get_running_loop().create_future()

    async def receive(request: web.Request) -> web.Response:
        called.set_result((request.method, request.headers["evalx-signature"], await request.read()))
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/hook", receive)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    document = {
        "language": "c",
        "code": program("c", "sum"),
        "tests": [{"stdin": "1 2"}],
        "callback_url": f"http://127.0.0.1:{runner.addresses[0][1]}/hook",
    }
    _, accepted = await gateway.post("/v1/submissions", document)
    method, signature, body = await asyncio.wait_for(called, 120)
    await runner.cleanup()
    stamp, _, digest = signature.removeprefix("t=").partition(",v1=")
    assert digest == hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert (method, json.loads(body)["id"]) == ("PUT", accepted["id"])


async def test_a_burst_of_batches_fails_in_none(gateway: RunningGateway):
    batch = [{"language": "python", "code": SUM, "stdin": f"{number} 1"} for number in range(5)]
    answers = await asyncio.gather(*(gateway.post("/execute-batch" + WAIT, batch) for _ in range(100)))
    assert [status for status, _ in answers] == [200] * 100
    assert {answer["results"][4]["stdout"] for _, answer in answers} == {"5\n"}


async def test_others_answer_for_a_gateway_and_take_over_when_it_dies(topics: Topics, gateway: RunningGateway):
    async with running(topics) as other:
        _, accepted = await other.post("/v1/submissions", LIVE)
        path = f"/v1/submissions/{accepted['id']}"
        # What somebody else waits for is told of as well.
        assert (await gateway.get(path))[0] == 202
        names = [name async for name, _ in events(gateway, accepted["id"])]
        assert names[-3:] == ["test", "test", "result"]
        assert (await other.get(path))[1] == (await gateway.get(path))[1]

        _, left = await other.post("/v1/submissions", LIVE)
        other.process.kill()
        other.killed = True
    status, result = await gateway.get(f"/v1/submissions/{left['id']}{WAIT}")
    assert (status, result["verdict"]) == (200, "OK")


# ---- what gateways share in Redis ----------------------------------------------------------------


def ticket(number: int, payer: str = "p", instance: str = "g-1", callback_url: str | None = None) -> Ticket:
    return Ticket(
        id=f"s-{number}", owner="", payer=payer, instance=instance, lane="low", language="c", version="17", tests=1,
        content=b"", submitted_ms=int(time.time() * 1000), callback_url=callback_url,
    )  # fmt: skip


@pytest.fixture
async def shelf(services: Services) -> AsyncIterator[Callable[..., Shelf]]:
    url = services.next_redis()
    shelves: list[Shelf] = []

    def make(name: str = "g-1", **settings: Any) -> Shelf:
        shelves.append(Shelf(Settings(redis_url=url, redis_timeout_ms=5000, **settings), name))
        return shelves[-1]

    yield make
    for one in shelves:
        await one.close()


async def test_redis_keeps_what_waits_and_within_which_limits(shelf: Callable[..., Shelf]):
    one = shelf(max_waiting=3, gateway_concurrency=2)
    first = ticket(1)
    assert await one.admit(first) == (None, None, 0, False)
    # A repeat of the call, whose first answer was lost.
    assert await one.admit(first) == (None, None, 0, False)
    assert (await one.admit(ticket(1, payer="q"))).known == Entry(first)
    assert (await one.admit(ticket(2))).refusal is None
    assert (await one.admit(ticket(3))).refusal == "concurrency"
    assert (await one.admit(ticket(3, payer="q"))).refusal is None
    assert (await one.admit(ticket(4, payer="r"))).refusal == "waiting"
    entry = finished(first, b"{}")
    assert await one.finish(entry, "channel", b"")
    assert (await one.find("s-1")).entry == entry
    assert (await one.admit(ticket(5))).refusal is None
    await one.withdraw(ticket(2))
    assert await one.find("s-2") == (None, False)
    assert await one.waiting() == 2


async def test_redis_spreads_a_payers_submissions_over_time(shelf: Callable[..., Shelf]):
    one = shelf(gateway_rate_per_s=0.01)
    assert (await one.admit(ticket(1))).refusal is None
    refused = await one.admit(ticket(2))
    assert refused.refusal == "rate"
    assert 0 < refused.retry_after_ms <= 100_000
    assert (await one.admit(ticket(3, payer="q"))).refusal is None
    burst = shelf(gateway_rate_per_s=5)
    refusals = [(await burst.admit(ticket(number, payer="b"))).refusal for number in range(10, 60)]
    assert refusals[:5] == [None] * 5
    assert "rate" in refusals


async def test_redis_knows_which_gateways_are_gone(shelf: Callable[..., Shelf]):
    one, two = shelf(), shelf("g-2")
    await one.beat()
    await two.beat()
    await one.admit(ticket(1))
    assert await two.gone() == []
    await one.leave()
    assert await two.gone() == ["g-1"]
    assert await two.opened_by("g-1") == ["s-1"]
    await two.take_over("g-1", [ticket(1)])
    assert await two.gone() == []
    assert await two.opened_by("g-2") == ["s-1"]
    assert len(await two.find_all(["s-1", "s-9"])) == 1


async def test_redis_gives_a_due_webhook_to_one_gateway(shelf: Callable[..., Shelf]):
    one, two = shelf(), shelf("g-2")
    for number in (1, 2):
        await one.finish(finished(ticket(number, callback_url="https://example.org"), b"{}"), "channel", b"")
    assert sorted(await one.claim_hooks(1) + await two.claim_hooks(9)) == ["s-1", "s-2"]
    assert await one.claim_hooks(9) == []
    assert [await one.hook_failed("s-1"), await two.hook_failed("s-1")] == [1, 2]
    await one.hook_again("s-1", 0)
    assert await two.claim_hooks(9) == ["s-1"]
    await two.hook_done("s-1")
    assert await one.hook_failed("s-1") == 1


async def test_the_live_gateway_keeps_its_document(open_topics: Callable[..., Topics], tmp_path: Path):
    """Schemathesis: requests by the document and beside it; no 5xx, and every answer as the document says."""
    async with open_topics("schemathesis") as topics, running(topics, gateway_max_wait_s=0.1) as gateway:
        # Nothing is judged here, so nothing is waited for either.
        arguments = ["run", f"{gateway.url}/openapi.json", "--phases", "coverage,fuzzing", "--max-examples", "3"]
        arguments += ["--checks", CHECKS, "--request-timeout", "60", "--exclude-path-regex", "/events$", "--no-color"]
        process = await asyncio.create_subprocess_exec(
            EVALX.with_name("st"),
            *arguments,
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
        assert process.returncode == 0, output.decode()[-6000:]


CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance,unsupported_method"
)
