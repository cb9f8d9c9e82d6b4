"""Where the workers of an installation answer: each says it in Redis for as long as it lives, for who looks for them.

Who listens on any address is told by the one under which Redis sees it, which is one of the network that all share. The
machine's name is told as well: an address of the machine itself, such as 127.0.0.1, means nothing to others.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable
from typing import NamedTuple, cast
from urllib.parse import urlsplit

import redis.asyncio

from evalx.cache.keys import VERSION

#: Where Redis listens unless its URL says otherwise.
_REDIS_PORT = 6379
_ANY = ("", "0.0.0.0", "::")

#: Enter a member for so many seconds. KEYS: sorted set. ARGV: member, seconds. By Redis's own clock; the dead go.
_ENTER = """
local now = tonumber(redis.call('TIME')[1])
redis.call('ZADD', KEYS[1], now + tonumber(ARGV[2]), ARGV[1])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('EXPIRE', KEYS[1], ARGV[2])
"""
#: The members that live. KEYS: sorted set.
_READ = "return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. redis.call('TIME')[1], '+inf')"


class Place(NamedTuple):
    """Where a worker's health port is: ``HOST:PORT`` as seen from ``machine``, a host's name."""

    machine: str
    address: str

    @property
    def is_here(self) -> bool:
        """Whether the address can mean anything on this machine."""
        return self.machine == socket.gethostname() or not _is_loopback(self.address)


class Roster:
    """The places of one installation. Whatever it is asked raises RedisError or OSError when Redis is away.

    Args:
        client: decodes responses.
        prefix: names the installation.
    """

    def __init__(self, client: redis.asyncio.Redis, prefix: str) -> None:
        self._client = client
        self._key = f"evalx:{VERSION}:places:{prefix}"

    async def enter(self, place: Place, seconds: int) -> None:
        """Be found for so long."""
        await cast("Awaitable[None]", self._client.eval(_ENTER, 1, self._key, " ".join(place), str(seconds)))

    async def leave(self, place: Place) -> None:
        """Be found no more."""
        await self._client.zrem(self._key, " ".join(place))

    async def read(self) -> list[Place]:
        """Who can be found, in order."""
        found = await cast("Awaitable[list[str]]", self._client.eval(_READ, 1, self._key))
        return sorted(Place(*one.split(" ", 1)) for one in found if " " in one)


async def place_of(host: str, port: int, redis_url: str) -> Place:
    """The place of who listens there, on this machine.

    Raises:
        OSError: it listens on any address, and there is no way to Redis.
    """
    if host in _ANY:
        host = await _address_seen_from(redis_url)
    return Place(socket.gethostname(), f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


async def _address_seen_from(redis_url: str) -> str:
    parts = urlsplit(redis_url)
    if parts.hostname is None:
        return "127.0.0.1"
    remote = parts.hostname, parts.port or _REDIS_PORT
    # Nothing is sent: to connect a datagram socket is to ask the system for the way.
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(
        asyncio.DatagramProtocol, remote_addr=remote
    )
    try:
        return str(transport.get_extra_info("sockname")[0])
    finally:
        transport.close()


def _is_loopback(address: str) -> bool:
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
