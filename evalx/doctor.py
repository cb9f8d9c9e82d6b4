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

from evalx.agents.topics import TopicAdmin
from evalx.errors import EvalxError
from evalx.languages import Registry
from evalx.sandbox.pool import open_docker
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
            images = [await _image(docker, settings, image) for image in Registry.load().images]
    except _DOCKER_ERRORS as error:
        advice = "start dockerd, or set EVALX_DOCKER_HOST; the user needs access to the socket"
        return [Check("docker", "fail", f"the daemon does not answer: {error}", advice)]
    finally:
        await docker.close()
    daemon = Check("docker", "ok", f"version {version['Version']}, {info.get('NCPU')} CPUs, {info.get('Driver')}")
    return [daemon, check_cgroups(info), *images, _clock("clock of Docker", _docker_time(info))]


async def _image(docker: aiodocker.Docker, settings: Settings, image: str) -> Check:
    name = settings.image_prefix + image
    try:
        found = await docker.images.inspect(name)
    except aiodocker.DockerError:
        return Check(f"image {name}", "fail", "it is not there", "build the images: docker/build-images.sh")
    return Check(f"image {name}", "ok", f"{found['Size'] / 1e6:.0f} MB, {str(found['Id'])[:19]}")


def check_cgroups(info: Mapping[str, Any]) -> Check:
    """Whether the daemon can keep the limits that sandboxes are started with; ``info`` is Docker's own."""
    version = f"cgroup v{info.get('CgroupVersion', '1')}"
    missing = [name for key, name in (("MemoryLimit", "memory"), ("PidsLimit", "pids")) if not info.get(key)]
    if missing:
        advice = "boot with cgroup_enable=memory, or use a kernel with these controllers"
        return Check("cgroups", "fail", f"{version} without the limit of {' and '.join(missing)}", advice)
    if not info.get("SwapLimit"):
        advice = "boot with swapaccount=1, or switch swap off"
        return Check("cgroups", "warn", f"{version}: swap of containers is not limited", advice)
    return Check("cgroups", "ok", f"{version}, memory, swap and pids are limited")


async def _kafka(settings: Settings) -> list[Check]:
    try:
        async with asyncio.timeout(SERVICE_TIMEOUT_S), TopicAdmin(settings) as admin:
            states = await admin.states()
    except (EvalxError, OSError, TimeoutError) as error:
        advice = "start Kafka, or set EVALX_KAFKA_BOOTSTRAP"
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
    client = redis.asyncio.Redis.from_url(settings.redis_url)
    try:
        async with asyncio.timeout(SERVICE_TIMEOUT_S):
            memory: dict[str, Any] = await client.info("memory")
            seconds, microseconds = await client.time()
    except _REDIS_ERRORS as error:
        advice = "start Redis, or set EVALX_REDIS_URL; until then each worker only knows what it has judged itself"
        return [Check("redis", "warn", f"it does not answer: {error}", advice)]
    finally:
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
