"""Webhooks: the Result is PUT to the `callback_url` of its submission, signed, and again until it is taken.

Theory of operation
===================
What is to be called is a sorted set in Redis, by the time of the next try. Any gateway takes what is due, for itself
alone as long as a call can last; a gateway that dies in the middle leaves the call to the next one. So a webhook is
called at least once, by whichever gateway is there, and a receiver drops repeated ids.

The caller chooses the URL, and must not make the gateway talk to what only the gateway can reach. So a name is resolved
by a resolver that knows no private address, and the connection goes to the very address that was looked at: a name that
means something else a moment later (DNS rebinding) is of no use. Redirects are not followed, and proxies of the
environment not used.

Signature: ``evalx-signature: t=SECONDS,v1=HEX``, where HEX is the HMAC-SHA256 of ``SECONDS.BODY`` with
``EVALX_WEBHOOK_SECRET``.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import ipaddress
import socket
import time
from typing import Any, Literal, TypeAlias
from urllib.parse import urlsplit

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver, ResolveResult

from evalx.errors import RequestError
from evalx.gateway.desk import Desk
from evalx.gateway.entries import Entry
from evalx.gateway.metrics import WEBHOOKS
from evalx.gateway.shelf import Shelf
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Seconds for one call, names and all; shorter than a claim of it lasts.
CALL_TIMEOUT_S = 10.0
#: Seconds of pause before each further try: 9 tries in half a day, for a receiver that is being repaired.
PAUSES_S = (1, 5, 30, 120, 600, 3600, 3 * 3600, 7 * 3600)
#: Seconds between looks at what is due, when nothing of this gateway's own is.
LOOK_S = 1.0
#: Calls of this gateway at one time.
CALLS = 16
#: Characters of a URL that is accepted.
URL_LENGTH = 2000

Outcome: TypeAlias = Literal["delivered", "failed", "given_up"]


class ForbiddenAddressError(OSError):
    """The name has only addresses that webhooks are not sent to."""


def check_url(url: str, settings: Settings) -> None:
    """Refuse a `callback_url` that can be seen to be wrong; what its name means is looked at with each call.

    Raises:
        RequestError: 400, with what is wrong.
    """
    if settings.webhook_secret is None:
        raise RequestError(400, "callback_url: this gateway sends no webhooks (EVALX_WEBHOOK_SECRET is not set)")
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port
    except ValueError as error:
        raise RequestError(400, f"callback_url: not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host or len(url) > URL_LENGTH:
        raise RequestError(400, "callback_url: an http or https URL is expected")
    if parts.username is not None or parts.password is not None:
        raise RequestError(400, "callback_url: no user name or password; calls are signed instead")
    if _is_address(host) and not (settings.webhook_allow_private or is_public(host)):
        raise RequestError(400, "callback_url: webhooks go to public addresses only")


def is_public(address: str) -> bool:
    """Whether an address belongs to the public Internet, whatever it is wrapped into."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if (wrapped := _wrapped(ip)) is not None:
            return is_public(str(wrapped))
        if ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def sign(secret: str, body: bytes, at_s: int) -> str:
    """The signature of a body that is sent at this time (seconds since the epoch)."""
    digest = hmac.new(secret.encode(), b"%d." % at_s + body, hashlib.sha256).hexdigest()
    return f"t={at_s},v1={digest}"


class PublicResolver(AbstractResolver):
    """Resolves names to public addresses alone."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; raises ForbiddenAddressError when none may be called."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, family=socket.AF_UNSPEC)
        allowed = [one for one in found if self._allow_private or is_public(str(one[4][0]))]
        if not allowed:
            raise ForbiddenAddressError(None, f"{host} has no public address")
        return [
            ResolveResult(
                hostname=host, host=str(address[0]), port=port, family=kind, proto=protocol,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for kind, _, protocol, _, address in allowed
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing is held."""


class Webhooks:
    """Calls what is due until it is stopped."""

    def __init__(self, settings: Settings, desk: Desk, shelf: Shelf) -> None:
        self._settings = settings
        self._desk = desk
        self._shelf = shelf
        self._session: aiohttp.ClientSession | None = None
        self._task: asyncio.Task[None] | None = None
        self._calls: set[asyncio.Task[Any]] = set()

    def start(self) -> None:
        """Begin, unless there is no secret to sign with."""
        if self._settings.webhook_secret is None:
            return
        resolver = PublicResolver(allow_private=self._settings.webhook_allow_private)
        # No cache of names: what was looked at is what is connected to, each time.
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, force_close=True)
        timeout = aiohttp.ClientTimeout(total=CALL_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=False)
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Give up the calls in progress: another gateway, or this one after its restart, makes them again."""
        tasks = [task for task in (self._task, *self._calls) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._desk.hook_due.wait()
            self._desk.hook_due.clear()
            while free := CALLS - len(self._calls):
                ids = await self._shelf.claim_hooks(free)
                for submission_id in ids:
                    task = asyncio.create_task(self._deliver(submission_id))
                    self._calls.add(task)
                    task.add_done_callback(self._calls.discard)
                if len(ids) < free:
                    break
            else:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)

    async def _deliver(self, submission_id: str) -> None:
        entry, away = await self._shelf.find(submission_id)
        if away:
            return
        if entry is None or entry.result is None or entry.ticket.callback_url is None:
            await self._shelf.hook_done(submission_id)
            return
        if (failure := await self._call(entry, entry.ticket.callback_url, entry.result)) is None:
            await self._shelf.hook_done(submission_id)
            WEBHOOKS.labels("delivered").inc()
            return
        await self._try_again(submission_id, failure)

    async def _try_again(self, submission_id: str, failure: str) -> None:
        tries = await self._shelf.hook_failed(submission_id)
        given_up = tries > len(PAUSES_S)
        WEBHOOKS.labels("given_up" if given_up else "failed").inc()
        log.warning("webhook_failed", submission=submission_id, tries=tries, given_up=given_up, error=failure)
        if given_up:
            await self._shelf.hook_done(submission_id)
        elif tries:
            await self._shelf.hook_again(submission_id, PAUSES_S[tries - 1])

    async def _call(self, entry: Entry, url: str, result: bytes) -> str | None:
        """One call; why it failed, or None."""
        assert self._session is not None
        assert self._settings.webhook_secret is not None
        headers = {
            "content-type": "application/json",
            "user-agent": "evalx-webhook/1",
            "evalx-id": entry.ticket.id,
            "evalx-signature": sign(self._settings.webhook_secret, result, int(time.time())),
        }
        try:
            # A literal address passes the resolver by.
            check_url(url, self._settings)
            async with self._session.put(url, data=result, headers=headers, allow_redirects=False) as answer:
                return None if 200 <= answer.status < 300 else f"status {answer.status}"
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, RequestError) as error:
            return str(error) or type(error).__name__


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _wrapped(ip: ipaddress.IPv6Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to: mapped, compatible, 6to4, or through NAT64."""
    if ip.ipv4_mapped is not None:
        return ip.ipv4_mapped
    if ip.sixtofour is not None:
        return ip.sixtofour
    number = int(ip)
    if (number >> 32 == 0 and number > 1) or number >> 32 == 0x0064FF9B << 64:
        return ipaddress.IPv4Address(number & 0xFFFFFFFF)
    return None
