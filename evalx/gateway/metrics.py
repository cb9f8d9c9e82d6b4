"""The gateway's metrics, in a registry of their own. No label ever carries an id, a token or an address."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from evalx.metrics import BUILD, REDIS_AVAILABLE

REGISTRY = CollectorRegistry()
REGISTRY.register(REDIS_AVAILABLE)
REGISTRY.register(BUILD)
ProcessCollector(registry=REGISTRY)

#: Seconds; an answer without waiting takes some milliseconds, one with `?wait=` up to minutes.
_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)

REQUESTS = Counter("evalx_gateway_requests", "HTTP requests answered", ["route", "status"], registry=REGISTRY)
REQUEST_SECONDS = Histogram(
    "evalx_gateway_request_seconds", "Time to the end of the answer", ["route"], buckets=_BUCKETS_S, registry=REGISTRY
)
ACCEPTED = Counter("evalx_gateway_accepted", "Submissions produced", ["lane"], registry=REGISTRY)
REFUSED = Counter("evalx_gateway_refused", "Submissions refused with 429", ["reason"], registry=REGISTRY)
ANSWERED = Counter("evalx_gateway_answered", "Results of submissions of this gateway", ["status"], registry=REGISTRY)
WAITING = Gauge("evalx_gateway_waiting", "Submissions of this gateway without a result", registry=REGISTRY)
ADOPTED = Counter("evalx_gateway_adopted", "Submissions taken over from gateways that are gone", registry=REGISTRY)
STREAMS = Gauge("evalx_gateway_streams", "Open event streams and web sockets", registry=REGISTRY)
WEBHOOKS = Counter("evalx_gateway_webhooks", "Calls of webhooks", ["outcome"], registry=REGISTRY)
