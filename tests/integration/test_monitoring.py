"""Dashboard, rules and alerts, on a real Prometheus that scrapes a real worker and gateway: all have data."""

from __future__ import annotations

import asyncio
import json
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from aiohttp import web
from integration_stack import RUN_LABEL, Document, Services, Topics, docker, eventually, free_port, submission
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from running_gateway import RunningGateway, running

from evalx.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "evalx.json"
PROVISIONED = ROOT / "deploy" / "grafana" / "provisioning"
CONFIG = ROOT / "docker" / "prometheus"
RULES = yaml.safe_load((CONFIG / "rules.yml").read_text())
RUNBOOK = ROOT / "docs" / "runbook.md"
#: A rate needs two scrapes.
SCRAPE_INTERVAL = "1s"
#: A metric in an expression, without what it is asked for.
METRIC = re.compile(r"\b(?:evalx[_:]\w[\w:]*|node_\w+|process_\w+|up)\b(?!\s*\()")


def panels() -> list[Document]:
    found: list[Document] = [one for one in json.loads(DASHBOARD.read_text())["panels"] if one["type"] != "row"]
    return found


def rules(kind: str) -> list[Document]:
    return [rule for group in RULES["groups"] for rule in group["rules"] if kind in rule]


class Received:
    """Spans that came."""

    def __init__(self) -> None:
        self.port = free_port()
        self.requests: list[ExportTraceServiceRequest] = []

    def spans(self, trace: str) -> dict[str, Any]:
        """Those of a trace, by name."""
        found = (
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        )
        return {span.name: span for span in found if span.trace_id.hex() == trace}


class Prometheus:
    """One that scrapes what it is told."""

    def __init__(self, services: Services, folder: Path, targets: dict[str, int]) -> None:
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        self._disk = free_port()
        self._name = f"evalx-test-{services.run}-prometheus-{secrets.token_hex(3)}"
        self._image = f"{Settings().image_prefix}prometheus"
        self._label = f"{RUN_LABEL}={services.run}"
        folder.chmod(0o755)
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self._config({**targets, "kafka-disk": self._disk})))
        (folder / "rules.yml").write_bytes((CONFIG / "rules.yml").read_bytes())
        listen = f"--web.listen-address=127.0.0.1:{port}"
        self._run(self._name, "-v", f"{folder}:/etc/prometheus:ro", self._image, listen)
        collectors = ("--collector.disable-defaults", "--collector.filesystem")
        self._run(
            *(f"{self._name}-disk", "-v", f"{folder}:/kafka:ro", "--no-healthcheck"),
            *("--entrypoint", "prometheus-node-exporter", self._image, *collectors),
            f"--web.listen-address=127.0.0.1:{self._disk}",
        )

    async def query(self, expression: str) -> list[Any]:
        """What it has now."""
        result: list[Any] = (await self._ask("query", {"query": expression}))["result"]
        return result

    async def examples(self, metric: str) -> list[Document]:
        """The exemplars of a metric in the last hour."""
        now = time.time()
        found = await self._ask("query_exemplars", {"query": metric, "start": str(now - 3600), "end": str(now)})
        return [example for series in found for example in series["exemplars"]]

    async def _ask(self, what: str, parameters: dict[str, str]) -> Any:
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.url}/api/v1/{what}", params=parameters) as response,
        ):
            answer = await response.json()
        assert answer["status"] == "success", (what, parameters, answer)
        return answer["data"]

    async def has(self, expression: str) -> None:
        """Wait until an expression has data."""

        async def data() -> bool:
            try:
                return bool(await self.query(expression))
            except aiohttp.ClientError:
                return False

        await eventually(data, f"data for {expression}")

    def remove(self) -> None:
        docker("rm", "-fv", self._name, f"{self._name}-disk")

    def _run(self, name: str, *arguments: str) -> None:
        docker("run", "-d", "--name", name, "--label", self._label, "--network", "host", *arguments)

    @staticmethod
    def _config(targets: dict[str, int]) -> Document:
        """The committed one, with fixed targets instead of names that only the composition has."""
        config: Document = yaml.safe_load((CONFIG / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": SCRAPE_INTERVAL, "evaluation_interval": SCRAPE_INTERVAL}
        jobs = [one["job_name"] for one in config["scrape_configs"] if "dns_sd_configs" in one]
        assert sorted(jobs) == sorted(targets)
        config["scrape_configs"] = [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]} for name, port in targets.items()
        ]
        return config


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Received]:
    """Takes what OpenTelemetry's exporter sends."""
    received = Received()

    async def take(request: web.Request) -> web.Response:
        received.requests.append(ExportTraceServiceRequest.FromString(await request.read()))
        return web.Response(body=ExportTraceServiceResponse().SerializeToString())

    app = web.Application()
    app.add_routes([web.post("/v1/traces", take)])
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", received.port).start()
    yield received
    await runner.cleanup()


@pytest.fixture(scope="module")
async def gateway(open_topics: Callable[..., Topics], receiver: Received) -> AsyncIterator[RunningGateway]:
    async with open_topics("seen") as topics:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{receiver.port}")
            patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "500")
            worker = topics.worker(traces=True)
        await worker.ready()
        async with running(topics) as gateway:
            yield gateway
        assert (await worker.stop())[0] == 0


@pytest.fixture(scope="module")
def prometheus(
    services: Services, gateway: RunningGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    targets = {"evalx-worker": gateway.topics.workers[0].port, "evalx-gateway": int(gateway.url.rpartition(":")[2])}
    prometheus = Prometheus(services, tmp_path_factory.mktemp("prometheus"), targets)
    yield prometheus
    prometheus.remove()


@pytest.fixture(scope="module")
async def loaded(gateway: RunningGateway, prometheus: Prometheus) -> AsyncIterator[Prometheus]:
    """With work in it for as long as the tests of this module run."""

    async def load() -> None:
        while True:
            for document in (submission(), submission("python"), submission("c", "wrong_answer", cache="bypass")):
                await gateway.post("/v1/submissions?wait=60", document)
            await gateway.topics.send(b"no JSON", partition=0)

    loading = asyncio.create_task(load())
    yield prometheus
    loading.cancel()
    await asyncio.gather(loading, return_exceptions=True)


async def test_every_panel_has_data(loaded: Prometheus):
    for panel in panels():
        for target in panel["targets"]:
            await loaded.has(target["expr"])


async def test_every_rule_is_evaluated_and_made_of_metrics_that_exist(loaded: Prometheus):
    for rule in rules("record"):
        if "judge_errors" not in rule["record"]:
            await loaded.has(rule["record"])
    for rule in rules("alert"):
        metrics = set(METRIC.findall(rule["expr"]))
        assert metrics, rule
        for metric in metrics:
            await loaded.has(metric)


async def test_a_trace_goes_from_the_request_through_the_worker_to_the_result(
    gateway: RunningGateway, receiver: Received
):
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    headers = {"traceparent": f"00-{trace}-{parent}-01"}
    document = submission("c", "sum", cache="bypass")
    _, result = await gateway.post("/v1/submissions?wait=60", document, headers=headers)
    published = await gateway.topics.published(result["id"])
    spans = await eventually(lambda: receiver.spans(trace) if "submission" in receiver.spans(trace) else None, "spans")
    assert {"queued", "dedupe", "acquire", "compile", "run", "publish", "ack"} < spans.keys()
    assert spans["submission"].parent_span_id.hex() == parent
    continued = f"00-{trace}-{spans['submission'].span_id.hex()}-01"
    assert published.headers["traceparent"].decode() == continued


async def test_buckets_name_traces_that_fell_into_them(loaded: Prometheus, receiver: Received):
    for metric in ("evalx_submission_seconds_bucket", "evalx_stage_seconds_bucket"):
        examples = await eventually(partial(loaded.examples, metric), f"exemplars of {metric}")
        trace = examples[0]["labels"]["trace_id"]
        await eventually(lambda trace=trace: receiver.spans(trace), f"the spans of {trace}")


async def test_a_stack_that_is_well_raises_no_alarm(loaded: Prometheus):
    await loaded.has('up{job="evalx-worker"} == 1')
    # The disk is that of the machine that runs the tests.
    assert not await loaded.query('ALERTS{alertstate="firing", alertname!="EvalxKafkaDisk"}')


def test_every_alert_has_a_section_in_the_runbook():
    headings = {line.removeprefix("## ") for line in RUNBOOK.read_text().splitlines() if line.startswith("## ")}
    for rule in rules("alert"):
        assert rule["alert"] in headings
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


def test_every_alert_has_a_test_in_which_it_fires():
    cases = yaml.safe_load((CONFIG / "rules_test.yml").read_text())["tests"]
    fired = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one["exp_alerts"]}
    assert fired == {rule["alert"] for rule in rules("alert")}


def test_the_dashboard_is_found_and_asks_the_source_that_is_provisioned():
    dashboard = json.loads(DASHBOARD.read_text())
    (source,) = yaml.safe_load((PROVISIONED / "datasources" / "evalx.yml").read_text())["datasources"]
    assert dashboard["uid"] == "evalx"
    asked = {target["datasource"]["uid"] for panel in panels() for target in panel["targets"]}
    assert asked == {source["uid"]}
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
