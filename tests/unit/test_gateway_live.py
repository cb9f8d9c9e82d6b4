"""Streams and webhooks of the gateway, without Kafka and Redis."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from aiohttp import web
from gateway_scene import NATIVE, ONE, Scene
from starlette.websockets import WebSocketDisconnect

from evalx.cache.link import Link
from evalx.cache.progress import Progress, ProgressReporter, TestProgress, decode_progress
from evalx.errors import RequestError
from evalx.gateway import hub as hub_module
from evalx.gateway.desk import Desk, Order
from evalx.gateway.hub import Hub
from evalx.gateway.webhooks import PublicResolver, Webhooks, check_url, is_public, sign
from evalx.messages import Limits, Submission, TestCase, TestResult, decode_result
from evalx.settings import Settings
from evalx.testing import FakeShelf, FakeWire, accepted
from evalx.verdicts import Verdict

SECRET = "a secret of some length"
TWO = NATIVE | {"id": "s-1", "tests": [{"stdin": "1"}, {"stdin": "2"}]}


def ended(test_id: str) -> Progress:
    return Progress(tests=(TestProgress(id=test_id, verdict=Verdict.OK),))


def events(text: str) -> list[tuple[str, Any]]:
    blocks = [block.split("\n") for block in text.split("\n\n") if block.startswith("event: ")]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


def test_every_test_is_told_of_once_and_the_result_ends_the_stream():
    scene = Scene(judge=None)
    with scene.client:
        scene.post("/v1/submissions", TWO)
        # Before anybody listens, as it usually happens.
        scene.run(scene.gateway.hub.hear, "s-1", Progress(started=True))
        scene.run(scene.gateway.hub.hear, "s-1", ended("2"))
        scene.run(scene.gateway.hub.hear, "s-1", ended("2"))

        async def answer_when_listened_to() -> None:
            while not scene.gateway.hub._by_id:  # noqa: ASYNC110
                await asyncio.sleep(0)
            await scene.wire.answer(accepted(scene.wire.sent[0][1]))

        assert scene.client.portal is not None
        answering = scene.client.portal.start_task_soon(answer_when_listened_to)
        answer = scene.client.get("/v1/submissions/s-1/events")
        answering.result()
    assert answer.headers["content-type"].startswith("text/event-stream")
    told = events(answer.text)
    assert [name for name, _ in told] == ["status", "test", "test", "result"]
    assert told[0][1] == {"id": "s-1", "status": "processing"}
    assert [data["id"] for name, data in told if name == "test"] == ["2", "1"]
    assert decode_result(json.dumps(told[-1][1]).encode()).verdict is Verdict.OK


def test_a_status_never_goes_back():
    """That it has finished may be heard while Redis still answers that there is no result."""
    scene = Scene(judge=None)
    with scene.client:
        scene.post("/v1/submissions", TWO)
        scene.run(scene.gateway.hub.hear, "s-1", Progress(started=True))

        async def finish_before_the_result_is_found() -> None:
            hub = scene.gateway.hub
            while not hub._by_id:  # noqa: ASYNC110
                await asyncio.sleep(0)
            hub.finished("s-1")
            # Enough for the stream to look again; were it not, the test would say less and not fail.
            await asyncio.sleep(0.2)
            await scene.wire.answer(accepted(scene.wire.sent[0][1]))

        assert scene.client.portal is not None
        finishing = scene.client.portal.start_task_soon(finish_before_the_result_is_found)
        told = events(scene.client.get("/v1/submissions/s-1/events").text)
        finishing.result()
    assert [data["status"] for name, data in told if name == "status"] == ["processing"]


def test_the_events_of_what_is_finished_are_all_there():
    scene = Scene()
    with scene.client:
        scene.post("/v1/submissions", TWO)
        told = events(scene.client.get("/v1/submissions/s-1/events").text)
    assert [name for name, _ in told] == ["test", "test", "result"]


def test_the_socket_tells_of_all_submissions_as_the_original_did():
    scene = Scene(judge=None)
    with scene.client as client, client.websocket_connect("/ws") as socket:
        token = scene.post("/execute", ONE).json()["token"]
        scene.run(scene.gateway.hub.hear, token, Progress(started=True))
        scene.run(scene.gateway.hub.hear, token, ended("1"))
        scene.run(scene.wire.answer, accepted(scene.wire.sent[0][1]))
        # A worker's last words, after the result.
        scene.run(scene.gateway.hub.hear, token, ended("1"))
        scene.run(scene.gateway.hub.hear, "unknown", Progress(finished=True))
        messages = [socket.receive_json() for _ in range(3)]
        assert [one["status"] for one in messages] == ["Processing", "Processing", "Completed"]
        assert {one["id"] for one in messages} == {token}
        assert [one["results"] for one in messages[:2]] == [None, None]
        assert messages[1]["test"]["verdict"] == "OK"
        assert messages[2]["results"][0]["stdout"] == "1"
        scene.gateway.begin_to_stop()
        with pytest.raises(WebSocketDisconnect):
            socket.receive_json()


def test_a_socket_for_one_submission_hears_a_result_that_is_there_already():
    scene = Scene()
    with scene.client as client:
        token = scene.post("/execute", ONE).json()["token"]
        with client.websocket_connect(f"/ws?id={token}") as socket:
            assert socket.receive_json()["status"] == "Completed"


def test_sockets_hear_of_nobody_elses_submissions():
    tokens = ",".join(f"{name}={hashlib.sha256(name.encode()).hexdigest()}" for name in ("a", "b"))
    scene = Scene(gateway_tokens=tokens)
    first, second = ({"authorization": f"Bearer {name}"} for name in ("a", "b"))
    with scene.client as client:
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/ws"):
            pass
        with client.websocket_connect("/ws", headers=second) as socket:
            scene.post("/execute", ONE, headers=first)
            own = scene.post("/execute", ONE, headers=second).json()["token"]
            assert socket.receive_json()["id"] == own


def test_waiting_requests_are_answered_when_the_gateway_ends():
    scene = Scene(judge=None)
    with scene.client as client:
        scene.post("/v1/submissions", TWO)
        scene.gateway.begin_to_stop()
        assert client.get("/v1/submissions/s-1?wait=300").json()["status"] == "queued"
        assert events(client.get("/v1/submissions/s-1/events").text)[0][0] == "status"


def test_a_listener_that_is_too_slow_loses_messages_and_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(hub_module, "QUEUE_SIZE", 2)
    monkeypatch.setattr(hub_module, "REMEMBERED", 3)
    hub = Hub(Link(None, timeout_ms=1), "evalx")
    with hub.listen(None) as feed:
        for number in range(5):
            hub.hear(f"s-{number}", ended("1"))
        assert feed.overrun
    assert [hub.has_started(f"s-{number}") for number in range(5)] == [False, False, True, True, True]
    assert hub._all == set()


class Channel:
    """A Redis that keeps what is published."""

    def __init__(self) -> None:
        self.client = self
        self.messages: list[tuple[str, Progress | None]] = []

    def pipeline(self, transaction: bool) -> Channel:
        return self

    def publish(self, channel: str, message: bytes) -> None:
        self.messages.append((channel, decode_progress(message)))

    async def execute(self) -> list[int]:
        return []

    async def ask(self, call: Any) -> Any:
        return await call


async def test_tests_that_end_together_are_one_message():
    channel: Any = Channel()
    reporter = ProgressReporter(channel, "p")
    on_test = reporter.begin("s-1")
    on_test(TestResult(id="1", verdict=Verdict.AC, stdout="long"))
    on_test(TestResult(id="2", verdict=Verdict.WA, cpu_time_ms=2.0))
    reporter.begin("s-2")
    assert reporter._telling is not None
    await reporter._telling
    (first, told), (second, _) = channel.messages
    assert (first, second) == ("evalx:v1:p:progress:s-1", "evalx:v1:p:progress:s-2")
    assert told is not None
    assert told.started
    assert [(test.id, test.verdict) for test in told.tests] == [("1", "AC"), ("2", "WA")]
    on_test(TestResult(id="3", verdict=Verdict.AC))
    await reporter._telling
    assert channel.messages[2][1] == Progress(tests=(TestProgress(id="3", verdict=Verdict.AC),))
    await reporter.stop()


# ---- webhooks ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
        "255.255.255.255", "192.0.2.1", "::1", "::", "fe80::1%eth0", "fc00::1", "fec0::1", "ff02::1", "::ffff:10.0.0.1",
        "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::7f00:1", "2001:db8::1",
    ],
)  # fmt: skip
def test_private_addresses_are_known_in_every_dress(address: str):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_called(address: str):
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "", "x", "ftp://example.org/", "file:///etc/passwd", "http://", "http://a:b@example.org/", "http://[::1]/",
        "http://127.0.0.1/", "http://[::ffff:169.254.169.254]/", "http://example.org:99999/", "http://[x/",
        "https://example.org/" + "x" * 2000,
    ],
)  # fmt: skip
def test_a_url_that_is_wrong_is_refused_at_once(url: str):
    with pytest.raises(RequestError, match=r"^callback_url: "):
        check_url(url, Settings(webhook_secret=SECRET))


def test_a_url_of_a_name_is_looked_at_when_it_is_called():
    check_url("https://example.org/hook?a=1", Settings(webhook_secret=SECRET))
    check_url("http://10.0.0.1/", Settings(webhook_secret=SECRET, webhook_allow_private=True))


async def test_a_name_that_means_a_private_address_is_not_resolved(monkeypatch: pytest.MonkeyPatch):
    answers = ["127.0.0.1"]

    async def getaddrinfo(*_arguments: Any, **_options: Any) -> Any:
        return [(2, 1, 6, "", (address, 80)) for address in answers]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    resolver = PublicResolver(allow_private=False)
    with pytest.raises(OSError, match="has no public address"):
        await resolver.resolve("rebound.example", 80)
    # Of several, only the public ones are connected to.
    answers.append("8.8.8.8")
    assert [one["host"] for one in await resolver.resolve("rebound.example", 80)] == ["8.8.8.8"]


class Receiver:
    """A server that is called, and answers with these statuses in turn, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.calls: list[tuple[str, dict[str, str], bytes]] = []
        self.called = asyncio.Event()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.calls.append((request.method, dict(request.headers), await request.read()))
        self.called.set()
        status = self.statuses.pop(0) if self.statuses else 200
        return web.Response(status=status, headers={"location": self.url} if status == 302 else None)


@pytest.fixture
async def receiver(request: pytest.FixtureRequest) -> AsyncIterator[Receiver]:
    receiver = Receiver(*getattr(request, "param", ()))
    app = web.Application()
    app.router.add_route("*", "/hook", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    yield receiver
    await runner.cleanup()


async def deliver(url: str, *, allow_private: bool) -> FakeShelf:
    """Accept one submission with a webhook and call it until there is nothing more to call."""
    settings = Settings(webhook_secret=SECRET, webhook_allow_private=allow_private)
    wire, shelf = FakeWire(None), FakeShelf(settings)
    desk = Desk(settings, "g-1", wire, shelf, Hub(shelf.link, "evalx"))
    await wire.start(desk.wants, desk.on_result)
    webhooks = Webhooks(settings, desk, shelf)
    webhooks.start()
    one = Submission(
        id="s-1", language="c", version="17", code="", tests=(TestCase(id="1"),), limits=Limits(wall_time_ms=7000)
    )
    await desk.accept([Order(submission=one, lane="low", owner="", payer="", callback_url=url)])
    await wire.answer(accepted(one))
    async with asyncio.timeout(60):
        while "s-1" not in shelf.hooks:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while shelf.hooks:
            desk.hook_due.set()
            await asyncio.sleep(0.001)
    await webhooks.stop()
    await wire.stop()
    return shelf


@pytest.mark.parametrize("receiver", [(500, 302)], indirect=True)
async def test_a_result_is_put_signed_and_again_until_it_is_taken(receiver: Receiver):
    shelf = await deliver(receiver.url, allow_private=True)
    assert (len(receiver.calls), shelf.tries) == (3, 2)
    method, headers, body = receiver.calls[-1]
    assert (method, headers["evalx-id"], decode_result(body).verdict) == ("PUT", "s-1", Verdict.OK)
    stamp, _, signature = headers["evalx-signature"].removeprefix("t=").partition(",v1=")
    assert signature == hmac.new(SECRET.encode(), f"{stamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert headers["evalx-signature"] == sign(SECRET, body, int(stamp))


async def test_a_private_address_is_never_connected_to(receiver: Receiver):
    shelf = await deliver(receiver.url, allow_private=False)
    assert (receiver.calls, shelf.tries) == ([], 9)
    shelf = await deliver(receiver.url.replace("127.0.0.1", "localhost"), allow_private=False)
    assert (receiver.calls, shelf.tries) == ([], 9)


def test_the_worker_is_told_nothing_of_a_webhook():
    scene = Scene(webhook_secret=SECRET)
    with scene.client:
        scene.post("/v1/submissions?wait=5", NATIVE | {"id": "s-1", "callback_url": "https://example.invalid/hook"})
        _, submission, _ = scene.wire.sent[0]
        assert not hasattr(submission, "callback_url")
        assert scene.shelf.entries["s-1"].ticket.callback_url == "https://example.invalid/hook"
        assert msgspec.json.encode(submission)
