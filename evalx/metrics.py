"""The worker's metrics, in a registry of their own. Base units; no label ever carries an id or code."""

from __future__ import annotations

import platform

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector

from evalx import __version__

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

#: Seconds; a cached answer takes a few milliseconds, a compile a few seconds, the longest batch two minutes.
STAGE_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 120.0)

#: Seconds; an idle container is there in microseconds, one that is started in tenths of a second.
ACQUIRE_BUCKETS_S = (0.0001, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 20.0)

BUILD = Info("evalx_build", "What runs here", registry=REGISTRY)
BUILD.info({"version": __version__, "python": platform.python_version()})

LANE_WAITING = Gauge("evalx_lane_waiting", "Submissions that wait in this worker", ["lane"], registry=REGISTRY)
LANE_OLDEST = Gauge(
    "evalx_lane_oldest_waiting_seconds", "Time since the oldest that waits in this worker was sent, 0 when none does",
    ["lane"], registry=REGISTRY,
)  # fmt: skip
LANE_IN_FLIGHT = Gauge("evalx_lane_in_flight", "Submissions that are being judged", ["lane"], registry=REGISTRY)
GROUP_LAG = Gauge(
    "evalx_group_lag", "Submissions that all workers have not committed, as the broker says: each worker says the same",
    ["lane"], registry=REGISTRY,
)  # fmt: skip
IN_FLIGHT = Gauge("evalx_in_flight", "Submissions that are being judged", registry=REGISTRY)
JUDGED = Counter("evalx_submissions", "Results published", ["lane", "status", "source"], registry=REGISTRY)
TESTS = Counter("evalx_tests", "Tests in published results", ["language", "verdict"], registry=REGISTRY)
RUNS = Counter("evalx_runs", "Runs of tests by how they started: exec, fork_server, warm", ["mode"], registry=REGISTRY)
DEAD_LETTERS = Counter("evalx_dead_letters", "Records that cannot be judged", ["code"], registry=REGISTRY)
RETRIES = Counter("evalx_retries", "Attempts repeated after a fault of ours", registry=REGISTRY)
REPEATS = Counter("evalx_repeats", "Results published for submissions that were taken before", registry=REGISTRY)
STAGE_SECONDS = Histogram(
    "evalx_stage_seconds", "Time of a submission by stage", ["stage"], buckets=STAGE_BUCKETS_S, registry=REGISTRY
)
SUBMISSION_SECONDS = Histogram(
    "evalx_submission_seconds", "Time of a submission from its sending to its acknowledgement: the sum of its stages",
    ["lane"], buckets=STAGE_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
JUDGED_SECONDS = Histogram(
    "evalx_judged_seconds", "The `judged_ms` of results: from the claim to the answer",
    buckets=STAGE_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
CACHE_LOOKUPS = Counter("evalx_cache_lookups", "Cache look-ups", ["level", "outcome"], registry=REGISTRY)
CACHE_HITS = Counter("evalx_cache_hits", "Look-ups that found it, by where", ["level", "place"], registry=REGISTRY)
CACHE_MEMORY_BYTES = Gauge(
    "evalx_cache_memory_bytes", "Bytes that this worker keeps in memory, by level", ["level"], registry=REGISTRY
)
REDIS_AVAILABLE = Gauge("evalx_redis_available", "1 while Redis answers, 0 while memory stands in", registry=REGISTRY)
REDIS_FAILURES = Counter(
    "evalx_redis_failures", "Calls without an answer: slow, away, refused", ["kind"], registry=REGISTRY
)
LEASES = Counter("evalx_leases", "Leases: awaited, taken over from the dead, lost", ["event"], registry=REGISTRY)
GAPS = Counter(
    "evalx_record_gaps", "Gaps in a partition: dropped by the consumer, or real", ["kind"], registry=REGISTRY
)
POOL_CONTAINERS = Gauge(
    "evalx_pool_containers", "Sandbox containers: idle, busy, starting, checking", ["image", "state"], registry=REGISTRY
)
POOL_UTILISATION = Gauge(
    "evalx_pool_utilisation", "Part of their time for which containers are busy", ["image"], registry=REGISTRY
)
POOL_ALLOWANCE = Gauge("evalx_pool_allowance", "Sandbox containers that this worker may have", registry=REGISTRY)
POOL_STARTS = Counter("evalx_pool_starts", "Sandbox containers started", ["image"], registry=REGISTRY)
POOL_CHANNELS = Counter(
    "evalx_pool_channels",
    "Sandbox containers started, by what frames travel over: socket, attach",
    ["kind"],
    registry=REGISTRY,
)
POOL_START_FAILURES = Counter(
    "evalx_pool_start_failures",
    "Failed starts, by whose fault: image, daemon",
    ["image", "cause"],
    registry=REGISTRY,
)
POOL_START_SECONDS = Histogram(
    "evalx_pool_start_seconds",
    "Time to start a sandbox container",
    ["image"],
    buckets=STAGE_BUCKETS_S,
    registry=REGISTRY,
)
POOL_RESETS = Counter(
    "evalx_pool_resets", "Jobs after which a container was reset and verified", ["image"], registry=REGISTRY
)
POOL_DESTROYED = Counter("evalx_pool_destroyed", "Sandbox containers removed", ["image", "reason"], registry=REGISTRY)
POOL_BREAKER_OPEN = Gauge(
    "evalx_pool_breaker_open", "1 while starts are held back: of one image, or of all (docker)", ["breaker"],
    registry=REGISTRY,
)  # fmt: skip
POOL_ACQUIRE_SECONDS = Histogram(
    "evalx_pool_acquire_seconds", "Time until a job has a container: an idle one, or one waited for", ["way"],
    buckets=ACQUIRE_BUCKETS_S, registry=REGISTRY,
)  # fmt: skip
CPU_SLOTS = Gauge("evalx_cpu_slots", "Programs that may run at one time", registry=REGISTRY)
CPU_SLOTS_BUSY = Gauge("evalx_cpu_slots_busy", "Slots in which a program runs", registry=REGISTRY)
CPU_SLOTS_WAITING = Gauge("evalx_cpu_slots_waiting", "Jobs that wait for a slot", registry=REGISTRY)
CPU_SLOTS_LENT = Counter(
    "evalx_cpu_slots_lent", "Slots that a batch gave up between two tests for a higher lane", registry=REGISTRY
)
CPU_SLOT_BUSY_SECONDS = Counter("evalx_cpu_slot_busy_seconds", "Time for which slots were busy", registry=REGISTRY)

# A rate needs a first value: what has never happened is 0, and not unknown.
for _event in ("awaited", "taken_over", "lost"):
    LEASES.labels(_event)
for _kind in ("dropped", "real"):
    GAPS.labels(_kind)
for _kind in ("slow", "away", "refused"):
    REDIS_FAILURES.labels(_kind)
