"""Whether the machine keeps what sandboxes rely on: memory and process limits, the filter of system calls, user ids.

What Docker says of itself (``missing_limits``) costs one call and is looked at by each start. It says what the kernel
can do, not what happens: a controller that is there but not delegated, or swap that nobody accounts for, is seen only
by trying (``probe``). That takes two containers, made exactly like sandboxes but with small limits and a shell for a
runner: one starts more processes than it may, the other takes more memory than it may. They are apart because what a
runtime does to a container that is over its memory differs: it may lose one process, or end as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from typing import Any

import aiodocker
import aiohttp
import msgspec
import structlog

from evalx.errors import ConfigurationError, DockerUnavailableError
from evalx.sandbox.spec import CAPABILITIES, UID_BLOCKS, UID_STRIDE, ContainerSpec

log = structlog.get_logger(__name__)

#: Seconds for both probes, which run at the same time: 20 to start on a machine in trouble (as long as a sandbox may
#: take), 2 for their work, and as much again for one with slow cores.
PROBE_TIMEOUT_S = 25.0
#: Seconds for the daemon to remove a probe that has not ended by itself.
REMOVE_TIMEOUT_S = 5.0

#: What the probes may have, and what they try to take. A runtime with a kernel of its own needs a part of the first.
MEMORY_BYTES = 96 << 20
MEMORY_TRIED = 2 * MEMORY_BYTES
PIDS = 64
PIDS_TRIED = 2 * PIDS

# The last process to take memory is the one that holds a line until it ends, and the line never ends.
_TAKE_MEMORY = f'echo begin; echo "memory $(head -c {MEMORY_TRIED} /dev/zero | tail -n 1 | wc -c)"'
_TAKE_PIDS = f"""
echo "$(cat /proc/self/status)"; echo "uids $(cat /proc/self/uid_map)"; echo begin
(i=0; while [ $i -lt {PIDS_TRIED} ]; do sleep 5 & i=$((i+1)); done) && echo "pids {PIDS_TRIED}"
"""

# Bits of the capabilities that a runner has (linux/capability.h).
_CAPABILITY_BITS = {"CHOWN": 0, "DAC_OVERRIDE": 1, "FOWNER": 3, "KILL": 5, "SETGID": 6, "SETUID": 7}
_EXPECTED_CAPABILITIES = sum(1 << _CAPABILITY_BITS[name] for name in CAPABILITIES)
_SECCOMP_FILTER = 2


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What the probes saw. ``None`` = a probe did not come so far as to see it."""

    memory_is_limited: bool | None
    pids_are_limited: bool | None
    seccomp: bool
    no_new_privileges: bool
    capabilities_as_expected: bool
    all_user_ids: bool


def missing_limits(info: Mapping[str, Any]) -> list[str]:
    """The limits that Docker says it cannot keep; ``info`` is its own."""
    return [name for key, name in (("MemoryLimit", "memory"), ("PidsLimit", "pids")) if not info.get(key)]


async def require_limits(docker: aiodocker.Docker, *, allow_unlimited: bool) -> None:
    """Make sure that Docker says it can limit a sandbox.

    Raises:
        ConfigurationError: it says that it cannot, and that is not allowed.
        DockerUnavailableError: it does not answer.
    """
    try:
        info = await docker.system.info()
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise DockerUnavailableError(message=f"the Docker daemon does not answer: {error!r}") from error
    if missing := " and ".join(missing_limits(info)):
        if not allow_unlimited:
            raise ConfigurationError(
                f"this Docker host does not limit {missing}, so that one program could take the whole machine: see "
                "`evalx doctor`; EVALX_ALLOW_UNLIMITED=true judges nevertheless"
            )
        log.warning("host_without_limits", missing=missing)
    if not info.get("SwapLimit"):
        log.warning("swap_not_limited", advice="boot with swapaccount=1, or switch swap off")


async def probe(docker: aiodocker.Docker, spec: ContainerSpec) -> Findings:
    """Try the limits in containers of the spec.

    Raises:
        TimeoutError: the probes did not end.
        aiodocker.DockerError, aiohttp.ClientError, OSError: the daemon cannot run them.
    """
    small = msgspec.structs.replace(spec, memory_bytes=MEMORY_BYTES, pids=PIDS)
    async with asyncio.timeout(PROBE_TIMEOUT_S):
        memory, rest = await asyncio.gather(_run(docker, small, _TAKE_MEMORY), _run(docker, small, _TAKE_PIDS))
    return interpret(memory, rest)


def interpret(memory: str, rest: str) -> Findings:
    """What the output of the two probes means."""
    return Findings(
        memory_is_limited=None if "begin" not in memory else f"memory {MEMORY_TRIED}" not in memory,
        pids_are_limited=None if "begin" not in rest else f"pids {PIDS_TRIED}" not in rest,
        seccomp=_status(rest, "Seccomp") == _SECCOMP_FILTER,
        no_new_privileges=_status(rest, "NoNewPrivs") == 1,
        capabilities_as_expected=all(
            _status(rest, f"Cap{kind}", 16) == _EXPECTED_CAPABILITIES for kind in ("Eff", "Bnd")
        ),
        all_user_ids=_user_ids(rest) >= UID_BLOCKS * UID_STRIDE,
    )


def _status(text: str, field: str, base: int = 10) -> int | None:
    found = re.search(rf"^{field}:\s*([0-9a-f]+)$", text, re.MULTILINE)
    return None if found is None else int(found[1], base)


def _user_ids(text: str) -> int:
    """How many ids from 0 on exist in the container: a remapping daemon gives it a few thousand only."""
    found = re.search(r"^uids\s+0\s+\d+\s+(\d+)\s*$", text, re.MULTILINE)
    return 0 if found is None else int(found[1])


async def _run(docker: aiodocker.Docker, spec: ContainerSpec, script: str) -> str:
    """The stdout of a script that is PID 1 of a container made like a sandbox."""
    options = {**spec.create_options(UID_STRIDE), "Entrypoint": ["/bin/sh", "-c"], "Cmd": [script]}
    container = await docker.containers.create(options)
    stream = container.attach(stdin=True, stdout=True, stderr=True)
    try:
        await stream.__aenter__()
        await container.start()
        return await _read(stream)
    finally:
        with contextlib.suppress(Exception):
            await stream.close()
        # It has removed itself, unless something went wrong; what went wrong is more worth telling than this.
        with contextlib.suppress(Exception):
            async with asyncio.timeout(REMOVE_TIMEOUT_S):
                await container.delete(force=True)


async def _read(stream: Any) -> str:
    text = b""
    while (message := await stream.read_out()) is not None:
        text += message.data if message.stream == 1 else b""
    return text.decode("utf-8", "replace")
