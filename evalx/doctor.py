"""`evalx doctor`: looks at everything that evalx needs, and says what to do about what is not right.

Every check answers for itself and never raises: a service that is away is one line, not the end of the examination.
`fail` means that submissions cannot be judged, `warn` that they are judged worse than they could be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias

import aiodocker
import aiohttp
import msgspec
import redis.asyncio

from evalx.access import redis_hint
from evalx.agents.topics import TopicAdmin
from evalx.errors import EvalxError
from evalx.languages import Registry
from evalx.sandbox.container import Container
from evalx.sandbox.daemon import close_docker, open_docker, wrong_revision
from evalx.sandbox.host import MEMORY_BYTES, MEMORY_TRIED, PIDS, PIDS_TRIED, Findings, missing_limits, probe
from evalx.sandbox.runtime import container_spec
from evalx.sandbox.sockets import open_sockets
from evalx.settings import Settings, unknown_variables

Status: TypeAlias = Literal["ok", "warn", "fail"]

#: Seconds that a service has to answer; one that needs longer is not healthy.
SERVICE_TIMEOUT_S = 10.0
#: Seconds by which clocks may differ: `queued_ms` compares a producer's clock with the worker's.
CLOCK_TOLERANCE_S = 1.0

_DOCKER_ERRORS = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError)
_REDIS_ERRORS = (redis.RedisError, OSError, TimeoutError)


class Check(msgspec.Struct, frozen=True):
    """What was looked at, what was found, and what to do about it (empty when nothing need be done)."""

    name: str
    status: Status
    detail: str
    advice: str = ""


async def examine(settings: Settings, environment: Mapping[str, str]) -> list[Check]:
    """All checks, in the order in which a problem should be solved."""
    parts: list[Awaitable[list[Check]]] = [_docker(settings), _kafka(settings), _redis(settings)]
    found = await asyncio.gather(*parts)
    return [_variables(environment), *(check for part in found for check in part), check_swap(Path("/proc/swaps"))]


def _variables(environment: Mapping[str, str]) -> Check:
    mistakes = unknown_variables(environment)
    if not mistakes:
        return Check("settings", "ok", "every EVALX_ variable is known")
    return Check("settings", "warn", "; ".join(mistakes), "correct or remove these variables")


async def _docker(settings: Settings) -> list[Check]:
    docker = open_docker(settings.docker_host)
    try:
        async with asyncio.timeout(SERVICE_TIMEOUT_S):
            info, version = await docker.system.info(), await docker.version()
            clock = _clock("clock of Docker", _docker_time(info))
            images = [await _image(docker, settings, image) for image in Registry.load().images]
        limits = [*await _limits(docker, settings, images), *await _channel(docker, settings, images)]
    except _DOCKER_ERRORS as error:
        advice = "start dockerd, or set EVALX_DOCKER_HOST; the user needs access to the socket"
        return [Check("docker", "fail", f"the daemon does not answer: {error}", advice)]
    finally:
        await close_docker(docker)
    daemon = Check("docker", "ok", f"version {version['Version']}, {info.get('NCPU')} CPUs, {info.get('Driver')}")
    return [daemon, check_cgroups(info), *images, *limits, clock]


async def _image(docker: aiodocker.Docker, settings: Settings, image: str) -> Check:
    name = settings.image_prefix + image
    try:
        found = await docker.images.inspect(name)
    except aiodocker.DockerError:
        return Check(f"image {name}", "fail", "it is not there", "build the images: docker/build-images.sh")
    if (wrong := wrong_revision(found)) is not None:
        return Check(f"image {name}", "fail", f"it {wrong}", "build the images again: docker/build-images.sh")
    return Check(f"image {name}", "ok", f"{found['Size'] / 1e6:.0f} MB, {str(found['Id'])[:19]}")


def check_cgroups(info: Mapping[str, Any]) -> Check:
    """Whether the daemon can keep the limits that sandboxes are started with; ``info`` is Docker's own."""
    version = f"cgroup v{info.get('CgroupVersion', '1')}"
    if missing := missing_limits(info):
        advice = "boot with cgroup_enable=memory, or use a kernel with these controllers"
        return Check("cgroups", "fail", f"{version} without the limit of {' and '.join(missing)}", advice)
    if not info.get("SwapLimit"):
        advice = "boot with swapaccount=1, or switch swap off"
        return Check("cgroups", "warn", f"{version}: swap of containers is not limited", advice)
    return Check("cgroups", "ok", f"{version}, memory, swap and pids are limited")


def _those_there(images: list[Check]) -> list[str]:
    return [image for image, check in zip(Registry.load().images, images, strict=True) if check.status == "ok"]


async def _limits(docker: aiodocker.Docker, settings: Settings, images: list[Check]) -> list[Check]:
    """Docker's word is not enough: try what happens to whoever takes too much, in any image that is there."""
    there = _those_there(images)
    if not there:
        return [Check("limits", "warn", "no image to try them in", "build the images, then ask again")]
    try:
        findings = await probe(docker, container_spec(settings, there[0], {}))
    except (*_DOCKER_ERRORS, EvalxError) as error:
        advice = "a sandbox cannot be started either; the daemon's log may say more"
        return [Check("limits", "fail", f"they cannot be tried: {str(error) or 'no end in time'}", advice)]
    return check_limits(findings, settings)


async def _channel(docker: aiodocker.Docker, settings: Settings, images: list[Check]) -> list[Check]:
    """Whether a sandbox reaches its worker without the daemon: start one, and see."""
    there = _those_there(images)
    if not there:
        return []
    reasons: list[str] = []
    sockets = await open_sockets(docker, settings, reasons.append)
    try:
        container = await Container.start(docker, container_spec(settings, there[0], {}, sockets=sockets))
        await container.close()
    except EvalxError as error:
        return [Check("frames", "fail", f"a sandbox does not start: {error}", "see the daemon's log")]
    finally:
        if sockets is not None:
            sockets.close()
    return [check_channel(container.channel_kind, reasons, settings)]


def check_channel(kind: str, reasons: list[str], settings: Settings) -> Check:
    """What frames travel over, and why."""
    if kind == "socket":
        return Check("frames", "ok", f"between worker and sandbox over a socket in {settings.socket_dir}")
    if not settings.direct_sockets:
        return Check("frames", "ok", "through the Docker daemon, as EVALX_DIRECT_SOCKETS=false says")
    detail = f"through the Docker daemon, which costs CPU time: {'; '.join(reasons)}"
    return Check("frames", "warn", detail, "see docs/sandbox.md for what sockets need; verdicts are the same")


def check_limits(found: Findings, settings: Settings) -> list[Check]:
    """Whether a sandbox is what it has to be, from what was seen in one."""
    return [
        _check_limit(
            "memory limit",
            found.memory_is_limited,
            f"{MEMORY_TRIED >> 20} MiB taken where {MEMORY_BYTES >> 20} are allowed",
        ),
        _check_limit("pids limit", found.pids_are_limited, f"{PIDS_TRIED} processes started where {PIDS} are allowed"),
        _check_seccomp(found, settings),
        _check_ids(found),
    ]


def _check_limit(name: str, limited: bool | None, over: str) -> Check:
    if limited:
        return Check(name, "ok", "tried, and enforced")
    if limited is None:
        return Check(name, "fail", "the container that was to try it ended at once", "see the daemon's log")
    advice = "enable this cgroup controller (on cgroup v1 with swapaccount=1), or switch swap off; do not judge before"
    return Check(name, "fail", f"not enforced: {over}", advice)


def _check_seccomp(found: Findings, settings: Settings) -> Check:
    if found.seccomp and found.no_new_privileges:
        return Check("seccomp", "ok", f"active, profile {settings.seccomp}; no new privileges")
    if found.no_new_privileges and settings.container_runtime is not None:
        detail = f"{settings.container_runtime} shows no filter inside of it"
        advice = "right for a runtime with a kernel of its own, such as gVisor (its --oci-seccomp adds the profile)"
        return Check("seccomp", "warn", detail, advice)
    lacks = "system calls are not filtered" if not found.seccomp else "a program could gain privileges"
    return Check(
        "seccomp", "fail", lacks, "use a kernel with CONFIG_SECCOMP_FILTER and a daemon that has seccomp enabled"
    )


def _check_ids(found: Findings) -> Check:
    if not found.all_user_ids:
        detail = "a sandbox has too few user ids, and each run needs its own"
        return Check("user ids", "fail", detail, "use a daemon that is neither rootless nor has userns-remap")
    if not found.capabilities_as_expected:
        detail = "a sandbox has other capabilities than it was given"
        return Check("user ids", "fail", detail, "look for what changes them: the daemon's settings, or its runtime's")
    return Check("user ids", "ok", "all there; only the capabilities that the runner needs")


async def _kafka(settings: Settings) -> list[Check]:
    try:
        async with asyncio.timeout(SERVICE_TIMEOUT_S), TopicAdmin(settings) as admin:
            states = await admin.states()
    except (EvalxError, OSError, TimeoutError) as error:
        advice = "start Kafka, or set EVALX_KAFKA_BOOTSTRAP and what it is to be told (docs/operating.md)"
        text = str(error) or f"no answer from {settings.kafka_bootstrap} within {SERVICE_TIMEOUT_S:g} s"
        return [Check("kafka", "fail", text, advice)]
    topics = [check_topic(state.name, state.wanted, state.found) for state in states]
    return [Check("kafka", "ok", f"{settings.kafka_bootstrap} answers"), *topics]


def check_topic(name: str, wanted: int, found: int) -> Check:
    """Whether a topic exists and has as many partitions as the lanes name."""
    if found == 0:
        return Check(f"topic {name}", "fail", "it does not exist", "evalx topics create")
    if found != wanted:
        detail = f"{found} partitions, the lanes need {wanted}"
        return Check(f"topic {name}", "fail", detail, "make EVALX_LANES name every partition that there is")
    return Check(f"topic {name}", "ok", f"{found} partitions")


async def _redis(settings: Settings) -> list[Check]:
    client = None
    try:
        client = redis.asyncio.Redis.from_url(settings.redis_location)
        async with asyncio.timeout(SERVICE_TIMEOUT_S):
            memory: dict[str, Any] = await client.info("memory")
            seconds, microseconds = await client.time()
    except (*_REDIS_ERRORS, EvalxError) as error:
        todo = redis_hint(error) or "start Redis, or set EVALX_REDIS_URL"
        advice = f"{todo}; until then each worker only knows what it has judged itself"
        return [Check("redis", "warn", f"it does not answer: {error}", advice)]
    finally:
        if client is not None:
            await client.aclose()
    return [check_redis_memory(memory), _clock("clock of Redis", seconds + microseconds / 1e6)]


def check_redis_memory(memory: Mapping[str, Any]) -> Check:
    """Whether Redis drops what is not used when it is full; ``memory`` is that section of its INFO."""
    policy, limit = memory.get("maxmemory_policy", "unknown"), int(memory.get("maxmemory", 0))
    if limit == 0:
        return Check("redis", "warn", "its memory has no limit", "set maxmemory, such as 512mb, in redis.conf")
    if not str(policy).startswith("allkeys-"):
        detail = f"maxmemory-policy {policy}: when it is full, nothing is cached any more"
        return Check("redis", "warn", detail, "set maxmemory-policy allkeys-lru in redis.conf")
    return Check("redis", "ok", f"maxmemory {limit >> 20} MiB, {policy}")


def _docker_time(info: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(str(info["SystemTime"])).timestamp()


def _clock(name: str, remote_s: float) -> Check:
    off_s = remote_s - time.time()
    if abs(off_s) > CLOCK_TOLERANCE_S:
        detail = f"{abs(off_s):.1f} s {'ahead of' if off_s > 0 else 'behind'} this machine's"
        return Check(name, "warn", detail, "synchronise the clocks (NTP); queued_ms is wrong until then")
    return Check(name, "ok", f"within {CLOCK_TOLERANCE_S:g} s of this machine's")


def check_swap(table: Path) -> Check:
    """Whether the host swaps; ``table`` has the format of /proc/swaps."""
    lines = table.read_text(encoding="utf-8").splitlines()[1:] if table.is_file() else []
    if not lines:
        return Check("swap", "ok", "off")
    devices = ", ".join(line.split()[0] for line in lines)
    advice = "swapoff -a: a program that is swapped out is slower through no fault of its own"
    return Check("swap", "warn", f"on: {devices}", advice)
