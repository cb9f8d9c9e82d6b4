"""Traces by OpenTelemetry: one span for each record's whole time in evalx, and one in it for each stage.

The span continues the trace of the submission's ``traceparent`` header, and the result's header continues the span. It
is made when the result is, since only then its number is needed, and ended with the acknowledgement; its times are
those of the record's timeline, so that traces and the histograms of stages say the same.

OpenTelemetry is an extra (``pip install evalx[traces]``) and is imported only where traces are switched on. Where spans
go is said by its own variables, such as ``OTEL_EXPORTER_OTLP_ENDPOINT``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from evalx.agents.records import Record
from evalx.errors import ConfigurationError
from evalx.messages import Result
from evalx.stages import Timeline

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span, Tracer

#: Nanoseconds in a second: the unit of OpenTelemetry's times.
NS = 1_000_000_000


class RecordSpan:
    """The span of one record."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> bytes:
        """What the result's header says: W3C Trace Context, version 00."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}".encode()

    @property
    def trace_id(self) -> str | None:
        """The number of its trace; None when that is not kept, so that nothing can be found by it."""
        return f"{self._span.get_span_context().trace_id:032x}" if self._span.is_recording() else None

    def end(self, timeline: Timeline) -> None:
        """The record was acknowledged: add the spans of its stages, and hand all of them over."""
        from opentelemetry.trace import set_span_in_context

        if not self._span.is_recording():
            return
        inside = set_span_in_context(self._span)
        since = timeline.sent
        for stage, at in timeline.marks:
            child = self._tracer.start_span(stage, inside, start_time=_ns(timeline, since))
            child.end(_ns(timeline, at))
            since = at
        self._span.end(_ns(timeline, since))


class Tracing:
    """Makes spans of records. ``provider`` says where they go."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider
        self._tracer = provider.get_tracer("evalx")

    def begin(self, record: Record, result: Result) -> RecordSpan:
        """The span of a record that this is the result of."""
        from opentelemetry.propagators.textmap import DefaultGetter
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        header = (record.header("traceparent") or b"").decode("ascii", "replace")
        parent = TraceContextTextMapPropagator().extract({"traceparent": header}, getter=DefaultGetter())
        attributes: dict[str, str | int] = {
            "messaging.system": "kafka",
            "messaging.destination.name": record.topic,
            "messaging.destination.partition.id": str(record.partition_number),
            "messaging.kafka.offset": record.offset,
            "evalx.submission": result.id,
            "evalx.lane": record.lane,
            "evalx.language": result.language or "",
            "evalx.status": result.status,
            "evalx.verdict": result.verdict or "",
            "evalx.source": result.source or "",
        }
        start = _ns(record.timeline, record.timeline.sent)
        return RecordSpan(
            self._tracer, self._tracer.start_span("submission", parent, attributes=attributes, start_time=start)
        )

    def close(self) -> None:
        """Send what is left; blocks for as long as the receiver takes."""
        self._provider.shutdown()


def open_tracing(worker: str) -> Tracing:
    """Traces that go where OpenTelemetry's variables say.

    Raises:
        ConfigurationError: the extra is not installed.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError as error:
        raise ConfigurationError(
            f"EVALX_TRACES needs OpenTelemetry ({error}); install it with: pip install 'evalx[traces]'"
        ) from None
    resource = Resource.create({"service.name": "evalx-worker", "service.instance.id": worker})
    # Not at exit: a receiver that does not answer must not keep the process.
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _ns(timeline: Timeline, at: float) -> int:
    """A moment of the timeline in nanoseconds since the epoch."""
    return int((timeline.sent_at + at - timeline.sent) * NS)
