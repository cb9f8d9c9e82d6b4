"""The probes of `evalx doctor` on this machine: they must see limits that are there, and limits that are not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiodocker
import msgspec
import pytest

from evalx.sandbox import host
from evalx.sandbox.daemon import close_docker, open_docker
from evalx.sandbox.runtime import container_spec
from evalx.sandbox.spec import ContainerSpec
from evalx.settings import Settings

#: Seconds, a bound for hangs: a busy daemon needs a few for a removal.
REMOVED_WITHIN_S = 30.0


@pytest.fixture
async def docker() -> AsyncIterator[aiodocker.Docker]:
    docker = open_docker(Settings.load().docker_host)
    yield docker
    await close_docker(docker)


@pytest.fixture
def spec() -> ContainerSpec:
    return container_spec(Settings.load(), "sandbox-python", {"org.evalx.test": "probe"})


async def test_this_machine_is_fit(docker: aiodocker.Docker, spec: ContainerSpec):
    found = await host.probe(docker, spec)
    assert all(msgspec.structs.astuple(found)), found


async def test_limits_that_are_missing_are_seen(docker: aiodocker.Docker, spec: ContainerSpec):
    """Otherwise the test above proves nothing: the probes run where they may take what they try to take."""
    wide = msgspec.structs.replace(
        spec,
        memory_bytes=2 * host.MEMORY_TRIED,
        pids=2 * host.PIDS_TRIED,
        security_options=("seccomp=unconfined",),
    )
    memory = await host._run(docker, wide, host._TAKE_MEMORY)
    found = host.interpret(memory, await host._run(docker, wide, host._TAKE_PIDS))
    assert (found.memory_is_limited, found.pids_are_limited, found.seccomp) == (False, False, False)
    assert found.no_new_privileges
    assert found.capabilities_as_expected


async def test_nothing_is_left(docker: aiodocker.Docker, spec: ContainerSpec):
    await host.probe(docker, spec)
    filters = '{"label": ["org.evalx.test=probe"]}'
    # The daemon answers before it has removed what it was already removing.
    async with asyncio.timeout(REMOVED_WITHIN_S):
        while await docker.containers.list(all=True, filters=filters):  # noqa: ASYNC110  the daemon has no event for us
            await asyncio.sleep(0.1)
