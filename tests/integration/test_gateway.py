"""The gateway on real Kafka and Redis, judged by the worker that the other tests share."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from integration_stack import EVALX, Document, Topics, Worker, eventually, free_port, program

SUM = program("python", "sum")
#: Seconds that are more than enough; a bound for hangs.
WAIT = "?wait=120"


class RunningGateway:
    """One ``evalx gateway`` process, and a client of it."""

    def __init__(self, topics: Topics, **settings: object) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        environment = topics.environment(gateway_port=port, **settings)
        # Its log is shown when a test fails, and the leak check knows of it.
        self.process = Worker(topics.services, environment, (str(EVALX), "gateway"))
        self.session = aiohttp.ClientSession(self.url)

    async def ready(self) -> None:
        await eventually(self._is_ready, "the gateway is ready")

    async def get(self, path: str, **options: Any) -> tuple[int, Any]:
        async with self.session.get(path, **options) as response:
            return response.status, await response.json()

    async def post(self, path: str, document: Any, **options: Any) -> tuple[int, Any]:
        async with self.session.post(path, json=document, **options) as response:
            return response.status, await response.json()

    async def _is_ready(self) -> bool:
        assert self.process.process.poll() is None, self.process.log.read_text()[-3000:]
        with contextlib.suppress(aiohttp.ClientError):
            return (await self.get("/health"))[0] == 200
        return False


@contextlib.asynccontextmanager
async def running(topics: Topics, **settings: object) -> AsyncIterator[RunningGateway]:
    gateway = RunningGateway(topics, **settings)
    try:
        await gateway.ready()
        yield gateway
        code, _ = await gateway.process.stop()
        assert code == 0
    finally:
        await gateway.session.close()
        gateway.process.kill()


@pytest.fixture(scope="module")
async def gateway(topics: Topics) -> AsyncIterator[RunningGateway]:
    async with running(topics) as gateway:
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
