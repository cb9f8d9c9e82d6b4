"""The Kubernetes manifests: right by the schemas, and in step with the settings that they set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from evalx.agents.worker import FORCED_AFTER_S
from evalx.languages import Registry
from evalx.settings import PREFIX, Settings, parse_lanes

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
#: Kubernetes from the oldest version that has sidecars to the newest one whose schemas are here.
VERSIONS = ("1.29", "1.37")
#: Kinds of others, which have no schema here.
FOREIGN = ("ScaledObject", "Kustomization")

Document = dict[str, Any]


def documents() -> list[Document]:
    return [one for path in sorted(FOLDER.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text())]


def named(kind: str, name: str) -> Document:
    (found,) = [one for one in documents() if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def pods() -> Iterator[Document]:
    for one in documents():
        if "template" in one.get("spec", {}):
            yield one["spec"]["template"]["spec"]


def config() -> dict[str, str]:
    data: dict[str, str] = named("ConfigMap", "evalx")["data"]
    return data


@pytest.mark.parametrize("version", VERSIONS)
def test_each_document_is_right_by_the_schema(version: str):
    ours = [one for one in documents() if one["kind"] not in FOREIGN]
    assert ours
    for one in ours:
        kubernetes_validate.validate(one, version, strict=True)


def test_each_file_is_applied():
    (kustomization,) = yaml.safe_load_all((FOLDER / "kustomization.yaml").read_text())
    assert sorted(kustomization["resources"]) == sorted(
        path.name for path in FOLDER.glob("*.yaml") if path.name != "kustomization.yaml"
    )


def test_what_is_set_are_settings():
    known = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields}
    env = [one["name"] for pod in pods() for it in pod["containers"] for one in it.get("env", ())]
    assert {*config(), *env} <= known


def test_each_lane_is_scaled_by_its_own_lag():
    lanes = {lane.name: set(lane.partitions) for lane in parse_lanes(config()["EVALX_LANES"])}
    spec = named("ScaledObject", "evalx-worker")["spec"]
    scaled = {}
    for trigger in spec["triggers"]:
        about = trigger["metadata"]
        first, last = map(int, about["partitionLimitation"].split("-"))
        scaled[trigger["name"]] = set(range(first, last + 1))
        assert (trigger["type"], about["bootstrapServers"]) == ("kafka", config()["EVALX_KAFKA_BOOTSTRAP"])
        assert about["topic"] == f"{config()['EVALX_TOPIC_PREFIX']}.submissions"
        assert about["consumerGroup"] == f"{config()['EVALX_TOPIC_PREFIX']}-workers"
    assert scaled == lanes
    assert spec["maxReplicaCount"] == sum(map(len, lanes.values()))
    assert spec["scaleTargetRef"]["name"] == named("Deployment", "evalx-worker")["metadata"]["name"]


def test_every_sandbox_is_pulled():
    (pull,) = [one for pod in pods() for one in pod.get("initContainers", ()) if one["name"] == "images"]
    (script,) = pull["args"]
    (names,) = [line for line in script.splitlines() if line.startswith("for name in ")]
    pulled = {f"sandbox-{name}" for name in names.removeprefix("for name in ").removesuffix("; do").split()}
    assert pulled == set(Registry.load().images)


def test_a_worker_is_not_killed_before_it_can_have_ended():
    worker = named("Deployment", "evalx-worker")["spec"]["template"]["spec"]
    assert worker["terminationGracePeriodSeconds"] > Settings().drain_timeout_s + FORCED_AFTER_S
    probes = worker["containers"][0]
    assert (probes["readinessProbe"]["httpGet"]["path"], probes["livenessProbe"]["httpGet"]["path"]) == (
        "/readyz",
        "/livez",
    )


def test_nothing_but_the_daemon_is_privileged():
    for pod in pods():
        for one in pod["containers"]:
            assert one["securityContext"]["readOnlyRootFilesystem"]
            assert not one["securityContext"]["allowPrivilegeEscalation"]
            assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert one["resources"]["limits"]["memory"]


def test_every_service_of_production_has_limits():
    root = FOLDER.parents[1]
    services = yaml.safe_load((root / "docker-compose.yml").read_text())["services"]
    production = yaml.safe_load((root / "deploy" / "compose.production.yml").read_text())["services"]
    assert {name for name, one in services.items() if "profiles" not in one} <= production.keys() <= services.keys()
    for name, one in production.items():
        assert one["mem_limit"], name
        assert one["logging"]["options"]["max-file"], name
        assert (services[name] | one)["read_only"], name
        assert (services[name] | one)["cap_drop"] == ["ALL"], name
