"""docs/metrics.md lists every metric that a worker and a gateway have, and no other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from evalx import metrics
from evalx.gateway import metrics as gateway_metrics
from evalx.stages import STAGES

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
_SUFFIXES = {"counter": "_total", "info": "_info"}
#: Told on the page as one row of a table: the name, the type, the labels.
_ROW = re.compile(r"^\| `(evalx_\w+)` \| (\w+) \|([^|]*)\|", re.MULTILINE)


class Metric(NamedTuple):
    type: str
    labels: tuple[str, ...]


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def told(title: str) -> dict[str, Metric]:
    rows = _ROW.findall(section(title))
    return {name: Metric(kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def registered(registry: CollectorRegistry) -> dict[str, Metric]:
    """Ours, by the name under which they are asked for."""
    collectors: set[Any] = set(registry._collector_to_names)
    ours = [one for one in collectors if hasattr(one, "_labelnames")]
    return {one._name + _SUFFIXES.get(one._type, ""): Metric(one._type, _labels(one)) for one in ours}


def _labels(collector: Any) -> tuple[str, ...]:
    return tuple(collector._value) if collector._type == "info" else tuple(collector._labelnames)


SHARED = ("evalx_build_info", "evalx_redis_available")


def test_workers_have_what_the_page_says_and_nothing_else():
    assert told("Workers") == registered(metrics.REGISTRY)


def test_gateways_have_what_the_page_says_and_nothing_else():
    ours = registered(gateway_metrics.REGISTRY)
    assert all(f"`{name}`" in section("Gateways") for name in SHARED)
    assert told("Gateways") == {name: one for name, one in ours.items() if name not in SHARED}
    assert set(SHARED) < set(ours)


def test_the_page_has_every_stage_once_and_in_order():
    assert tuple(re.findall(r"^\| `(\w+)` \|", section("Where the time goes"), re.MULTILINE)) == STAGES


@pytest.mark.parametrize("registry", [metrics.REGISTRY, gateway_metrics.REGISTRY], ids=["worker", "gateway"])
def test_what_a_process_tells_of_itself_is_named(registry: CollectorRegistry):
    names = {one.name + ("_total" if one.type == "counter" else "") for one in registry.collect()}
    assert names - {name for name in names if name.startswith("evalx_")} == set(
        re.findall(r"`(process_\w+)`", section("Processes"))
    )


@pytest.mark.parametrize("registry", [metrics.REGISTRY, gateway_metrics.REGISTRY], ids=["worker", "gateway"])
def test_units_are_base_units(registry: CollectorRegistry):
    ours = registered(registry)
    assert not [name for name in ours if re.search(r"_(ms|milliseconds|minutes|kib|mib|percent)(_|$)", name)]
    forbidden = {"id", "submission", "token", "address", "worker"}
    assert not [name for name, one in ours.items() if forbidden & set(one.labels)]
