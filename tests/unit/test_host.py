"""What is concluded about a machine, from what Docker says of it and from what the probes saw."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import aiodocker
import msgspec
import pytest

from evalx.doctor import check_limits
from evalx.errors import ConfigurationError
from evalx.sandbox.host import MEMORY_TRIED, PIDS_TRIED, Findings, interpret, require_limits
from evalx.settings import Settings

STATUS = """Name:\tsh
CapEff:\t00000000000000eb
CapBnd:\t00000000000000eb
NoNewPrivs:\t1
Seccomp:\t2
Seccomp_filters:\t1
uids          0          0 4294967295
begin
"""
HEALTHY = Findings(
    memory_is_limited=True,
    pids_are_limited=True,
    seccomp=True,
    no_new_privileges=True,
    capabilities_as_expected=True,
    all_user_ids=True,
)


@pytest.mark.parametrize("memory", ["begin\n", "begin\nmemory 0\n", "begin\nmemory 4096\n"])
def test_a_healthy_machine(memory: str):
    """A runtime may end the process that takes too much, or the container with it."""
    assert interpret(memory, STATUS) == HEALTHY


def test_nothing_is_enforced():
    status = (
        STATUS.replace("eb\n", "ff\n").replace("NoNewPrivs:\t1", "NoNewPrivs:\t0").replace("Seccomp:\t2", "Seccomp:\t0")
    )
    status = status.replace("4294967295", "65536")
    found = interpret(f"begin\nmemory {MEMORY_TRIED}\n", f"{status}pids {PIDS_TRIED}\n")
    assert not any(msgspec.structs.astuple(found))
    assert found.memory_is_limited is False
    assert found.pids_are_limited is False


def test_a_container_that_did_nothing_proves_nothing():
    found = interpret("", "")
    assert (found.memory_is_limited, found.pids_are_limited) == (None, None)
    assert not any(msgspec.structs.astuple(found))


def test_ids_that_are_mapped_elsewhere_are_ids():
    assert interpret("begin", STATUS.replace("0          0 4294967295", "0 100000 4294867295")).all_user_ids


def checks(settings: Settings | None = None, **changes: Any) -> dict[str, tuple[str, str]]:
    found = check_limits(msgspec.structs.replace(HEALTHY, **changes), settings or Settings())
    assert all(bool(check.advice) == (check.status != "ok") for check in found)
    return {check.name: (check.status, check.detail) for check in found}


def test_a_healthy_sandbox():
    assert {status for status, _ in checks().values()} == {"ok"}


@pytest.mark.parametrize(
    ("changes", "name", "what"),
    [
        ({"memory_is_limited": False}, "memory limit", "not enforced"),
        ({"pids_are_limited": False}, "pids limit", "not enforced"),
        ({"memory_is_limited": None}, "memory limit", "ended at once"),
        ({"pids_are_limited": None}, "pids limit", "ended at once"),
        ({"seccomp": False}, "seccomp", "not filtered"),
        ({"no_new_privileges": False}, "seccomp", "gain privileges"),
        ({"capabilities_as_expected": False}, "user ids", "capabilities"),
        ({"all_user_ids": False}, "user ids", "too few"),
    ],
)
def test_an_unfit_sandbox(changes: dict[str, Any], name: str, what: str):
    found = checks(**changes)
    status, detail = found.pop(name)
    assert (status, what in detail) == ("fail", True)
    assert {status for status, _ in found.values()} == {"ok"}


def test_a_runtime_with_a_kernel_of_its_own_shows_no_filter():
    assert checks(Settings(container_runtime="runsc"), seccomp=False)["seccomp"][0] == "warn"


def docker_that_says(**info: bool) -> aiodocker.Docker:
    async def answer() -> dict[str, bool]:
        return info

    return cast(aiodocker.Docker, SimpleNamespace(system=SimpleNamespace(info=answer)))


@pytest.mark.parametrize(
    ("memory", "pids", "what"), [(False, True, "memory"), (True, False, "pids"), (False, False, "memory and pids")]
)
async def test_a_worker_does_not_start_without_limits(memory: bool, pids: bool, what: str):
    """Taken out, one fork bomb takes the machine and every submission on it."""
    docker = docker_that_says(MemoryLimit=memory, PidsLimit=pids, SwapLimit=True)
    with pytest.raises(ConfigurationError, match=f"does not limit {what},.*EVALX_ALLOW_UNLIMITED"):
        await require_limits(docker, allow_unlimited=False)
    await require_limits(docker, allow_unlimited=True)


@pytest.mark.parametrize("swap", [True, False])
async def test_a_worker_starts_with_limits(swap: bool):
    docker = docker_that_says(MemoryLimit=True, PidsLimit=True, SwapLimit=swap)
    await require_limits(docker, allow_unlimited=False)
