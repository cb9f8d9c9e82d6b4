"""The spans of a record: whose trace they continue, what they say, and that they end where the stages do."""

from __future__ import annotations

import builtins
import secrets
from typing import Any

import pytest
import structlog
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client.openmetrics import exposition as openmetrics
from structlog.testing import LogCapture

from evalx.agents import timing
from evalx.agents.publisher import Publisher
from evalx.agents.records import Record
from evalx.agents.timing import finished
from evalx.agents.tracing import NS, Tracing, open_tracing
from evalx.errors import ConfigurationError
from evalx.messages import Result
from evalx.metrics import REGISTRY
from evalx.settings import Settings
from evalx.testing import FakeEvent
from evalx.verdicts import Verdict

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
RESULT = Result(id="s-1", status="judged", verdict=Verdict.AC, language="c", lane="normal", worker="host:1")


async def judged(headers: list[tuple[str, bytes]], tracing: Tracing | None) -> tuple[Record, dict[str, bytes]]:
    """A record that was published and acknowledged, and its result's headers."""
    record = Record(FakeEvent(b"{}", headers=headers), "normal")
    for stage, after in (("queued", 1), ("run", 3), ("publish", 4)):
        record.timeline.mark(stage, record.timeline.sent + after)  # type: ignore[arg-type]
    publisher = Publisher(Settings(), "host:1", tracing)
    encoded = publisher.encode(record, RESULT)
    await publisher.stop()
    finished(record)
    return record, dict(encoded.headers)


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def tracing(spans: InMemorySpanExporter) -> Tracing:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return Tracing(provider)


async def test_the_submissions_trace_goes_on_and_the_result_continues_it(spans: InMemorySpanExporter, tracing: Tracing):
    record, headers = await judged([("traceparent", f"00-{TRACE}-{PARENT}-01".encode())], tracing)
    *stages, whole = spans.get_finished_spans()
    assert whole.parent is not None
    assert (f"{whole.context.trace_id:032x}", f"{whole.parent.span_id:016x}") == (TRACE, PARENT)
    assert headers["traceparent"] == f"00-{TRACE}-{whole.context.span_id:016x}-01".encode()
    assert [span.name for span in stages] == ["queued", "run", "publish", "ack"]
    assert {span.parent.span_id for span in stages if span.parent} == {whole.context.span_id}
    assert dict(whole.attributes or {})["evalx.verdict"] == "AC"
    assert whole.start_time == int(record.timeline.sent_at * NS)


async def test_an_example_of_each_bucket_is_named_to_who_asks_for_openmetrics(tracing: Tracing):
    trace = secrets.token_hex(16)
    await judged([("traceparent", f"00-{trace}-{PARENT}-01".encode())], tracing)
    told = openmetrics.generate_latest(REGISTRY).decode()
    named = [line.partition("{")[0] for line in told.splitlines() if f'# {{trace_id="{trace}"}}' in line]
    assert sorted(set(named)) == ["evalx_stage_seconds_bucket", "evalx_submission_seconds_bucket"]
    assert len(named) == 1 + len(("queued", "run", "publish", "ack"))


async def test_a_trace_that_is_not_kept_is_no_example(tracing: Tracing):
    trace = secrets.token_hex(16)
    await judged([("traceparent", f"00-{trace}-{PARENT}-00".encode())], tracing)
    assert trace not in openmetrics.generate_latest(REGISTRY).decode()


async def test_the_log_names_the_trace(tracing: Tracing, monkeypatch: pytest.MonkeyPatch):
    capture = LogCapture()
    monkeypatch.setattr(timing, "log", structlog.wrap_logger(None, [capture], structlog.BoundLogger))
    await judged([("traceparent", f"00-{TRACE}-{PARENT}-01".encode())], tracing)
    await judged([], None)
    assert [entry.get("trace_id") for entry in capture.entries] == [TRACE, None]


async def test_stages_follow_each_other_without_a_gap(spans: InMemorySpanExporter, tracing: Tracing):
    await judged([], tracing)
    *stages, whole = spans.get_finished_spans()
    moments = [whole.start_time, *(span.end_time for span in stages)]
    assert [span.start_time for span in stages] == moments[:-1]
    assert whole.end_time == moments[-1]
    assert whole.parent is None


@pytest.mark.parametrize("header", [b"nonsense", b"\xff\xfe", b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01"])
async def test_nonsense_begins_a_trace(spans: InMemorySpanExporter, tracing: Tracing, header: bytes):
    _, headers = await judged([("traceparent", header)], tracing)
    whole = spans.get_finished_spans()[-1]
    assert whole.parent is None
    assert f"{whole.context.trace_id:032x}".encode() in headers["traceparent"]


async def test_who_does_not_want_it_recorded_is_heeded(spans: InMemorySpanExporter, tracing: Tracing):
    _, headers = await judged([("traceparent", f"00-{TRACE}-{PARENT}-00".encode())], tracing)
    assert not spans.get_finished_spans()
    assert headers["traceparent"].decode().endswith("-00")
    assert TRACE in headers["traceparent"].decode()


async def test_without_traces_the_header_is_handed_on():
    header = f"00-{TRACE}-{PARENT}-01".encode()
    assert (await judged([("traceparent", header)], None))[1]["traceparent"] == header
    assert "traceparent" not in (await judged([("traceparent", b"nonsense")], None))[1]


def test_without_the_extra_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def refuse(name: str, *rest: Any) -> Any:
        if name.startswith("opentelemetry"):
            raise ModuleNotFoundError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ConfigurationError, match=r"evalx\[traces\]"):
        open_tracing("host:1")
