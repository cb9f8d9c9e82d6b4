"""Asks workers for their metrics, all at once; a name that has several addresses stands for all of them.

Workers that are not named are found by Redis, where each says where it answers (``evalx.cache.roster``). Without Redis
those that were found before are asked, and in the beginning the one on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Sequence
from typing import Self
from urllib.parse import urlsplit

import aiohttp
import msgspec
import redis.asyncio

from evalx.agents.slowest import Slow
from evalx.cache.roster import Place, Roster
from evalx.cli.vitals import Look, parse
from evalx.errors import UsageError
from evalx.settings import Settings

#: Seconds for a worker to answer; it does so from a thread of its own, within some milliseconds.
TIMEOUT_S = 3.0
#: Bytes of an answer; the metrics of a worker are some 50 KiB.
MAX_ANSWER_BYTES = 8 << 20

_slowest = msgspec.json.Decoder(tuple[Slow, ...])


class Workers:
    """The workers of the settings, or of the roster; ``async with`` opens it."""

    def __init__(self, settings: Settings) -> None:
        self._default_port = settings.health_port or Settings.model_fields["health_port"].default
        self._named = [place(text, self._default_port) for text in settings.worker_addresses]
        self._redis = redis.asyncio.Redis.from_url(
            settings.redis_location, decode_responses=True, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S
        )
        self._roster = Roster(self._redis, settings.topic_prefix)
        self._found: list[Place] = []
        #: What there is to say of the look for workers; empty while all is well.
        self.troubles: tuple[str, ...] = ()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT_S))
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self._session.close()
        with contextlib.suppress(redis.RedisError, OSError):
            await self._redis.aclose()

    async def look(self) -> list[Look]:
        """Ask all of them; who does not answer is told with the reason."""
        # Each time: workers come and go, also behind a name.
        names = self._named or await self._find()
        found = await asyncio.gather(*(_resolve(*one) for one in names))
        addresses = dict.fromkeys(address for some in found for address in some)
        return list(await asyncio.gather(*map(self._ask, addresses)))

    async def _find(self) -> list[tuple[str, int]]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                self._found, self.troubles = await self._roster.read(), ()
        except (redis.RedisError, OSError) as error:
            why = str(error) or f"no answer within {TIMEOUT_S:g} s"
            self.troubles = (f"Redis, where workers are found, is away: {why}; name them with --worker",)
        if not self._found:
            return [("localhost", self._default_port)]
        away = [one for one in self._found if not one.is_here]
        self.troubles += tuple(f"{one.machine}: the worker answers on {one.address} there only" for one in away)
        return [place(one.address, self._default_port) for one in self._found if one.is_here]

    async def _ask(self, address: str) -> Look:
        try:
            metrics, slowest = await asyncio.gather(self._get(address, "/metrics"), self._get(address, "/slowest"))
            return Look(address, parse(metrics.decode()), _slowest.decode(slowest))
        except TimeoutError:
            return Look(address, error=f"no answer within {TIMEOUT_S:g} s")
        except (aiohttp.ClientError, OSError) as error:
            return Look(address, error=str(error) or type(error).__name__)
        except (ValueError, msgspec.MsgspecError) as error:
            return Look(address, error=f"this is no worker of evalx: {error}")

    async def _get(self, address: str, path: str) -> bytes:
        async with self._session.get(f"http://{address}{path}", allow_redirects=False) as response:
            if response.status != 200:
                raise ValueError(f"{path} answers {response.status}")
            body = await response.content.read(MAX_ANSWER_BYTES + 1)
            while len(body) <= MAX_ANSWER_BYTES and (more := await response.content.read(MAX_ANSWER_BYTES)):
                body += more
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError(f"{path} answers more than {MAX_ANSWER_BYTES >> 20} MiB")
        return body


def place(text: str, default_port: int) -> tuple[str, int]:
    """Host and port of HOST, HOST:PORT or [IPV6]:PORT; raises UsageError."""
    try:
        parts = urlsplit(f"//{text}")
        if parts.hostname and parts.netloc == text and "@" not in text:
            return parts.hostname, parts.port or default_port
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not the address of a worker; write HOST or HOST:PORT")


async def _resolve(host: str, port: int) -> Sequence[str]:
    """All addresses of a name, of IPv4 if it has any: those of both families would be the same workers twice."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        # It is told as what does not answer.
        return [_written(host, port)]
    families = {one[0] for one in found}
    family = socket.AF_INET if socket.AF_INET in families else socket.AF_INET6
    return [_written(str(one[4][0]), port) for one in found if one[0] == family]


def _written(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
