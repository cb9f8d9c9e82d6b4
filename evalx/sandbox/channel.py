"""What frames travel over between a worker and one container: Docker's attach stream, or a socket that both share.

A channel carries bytes and knows nothing of frames. Its end is the end of the lease: whichever side goes, the other one
reads end-of-file.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any, Protocol, cast

import aiohttp

from evalx.errors import SandboxFaultError

#: Bytes that may wait for a reader before the other end is held back: as many as the runner lets gather by itself.
UNREAD_BYTES = 4 << 20
#: Bytes of a socket's buffers, as far as the kernel gives them: a usual batch is one piece and wakes the runner once.
SOCKET_BYTES = 1 << 20


class Channel(Protocol):
    """One reader at a time; writers need not wait for each other."""

    async def read(self) -> bytes:
        """At least one byte.

        Raises:
            SandboxFaultError: it has ended or broken, or the container complains.
        """

    async def write(self, data: bytes) -> None:
        """Send all of it; returns when it may be followed by more.

        Raises:
            SandboxFaultError: it has ended or broken.
        """

    async def close(self) -> None:
        """End it, for both sides."""

    @property
    def is_whole(self) -> bool:
        """Whether it is there, as far as is known here. Asks nobody."""


class AttachChannel:
    """Docker's stream, through the daemon and its shim: works wherever the daemon can be reached."""

    kind = "attach"

    def __init__(self, stream: Any, container: str) -> None:
        self._stream = stream
        self._container = container

    async def read(self) -> bytes:
        """See ``Channel``."""
        try:
            message = await self._stream.read_out()
        except (aiohttp.ClientError, OSError) as error:
            raise _broken(self._container, error) from error
        if message is None:
            raise SandboxFaultError(message=f"container {self._container} died")
        if message.stream != 1:
            text = message.data[:500].decode("utf-8", "replace")
            raise SandboxFaultError(message=f"container {self._container}: {text}")
        return bytes(message.data)

    async def write(self, data: bytes) -> None:
        """See ``Channel``."""
        try:
            await self._stream.write_in(data)
        except (aiohttp.ClientError, OSError, AssertionError, RuntimeError) as error:
            # aiodocker asserts on a connection that the daemon has closed.
            raise _broken(self._container, error) from error

    async def close(self) -> None:
        """See ``Channel``."""
        await self._stream.close()

    @property
    def is_whole(self) -> bool:
        """See ``Channel``."""
        response = self._stream._resp
        connection = response.connection if response is not None else None
        transport = connection.transport if connection is not None else None
        return transport is not None and not transport.is_closing()


class SocketChannel(asyncio.Protocol):
    """A connected local socket: nobody else wakes up for a frame."""

    kind = "socket"

    def __init__(self, container: str) -> None:
        self._container = container
        self._transport: asyncio.Transport | None = None
        self._unread: list[bytes] = []
        self._unread_bytes = 0
        self._waiting: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost: BaseException | None = None

    @classmethod
    async def over(cls, connection: socket.socket, container: str) -> SocketChannel:
        """A channel over a connected socket, which it owns from now on."""
        connection.setblocking(False)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
        loop = asyncio.get_running_loop()
        _, channel = await loop.connect_accepted_socket(lambda: cls(container), connection)
        return channel

    async def read(self) -> bytes:
        """See ``Channel``."""
        while not self._unread:
            if self._lost is not None:
                raise SandboxFaultError(message=f"container {self._container} died") from self._lost
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        data = self._unread[0] if len(self._unread) == 1 else b"".join(self._unread)
        self._unread.clear()
        if self._unread_bytes > UNREAD_BYTES and self._transport is not None and self._lost is None:
            self._transport.resume_reading()
        self._unread_bytes = 0
        return data

    async def write(self, data: bytes) -> None:
        """See ``Channel``."""
        if self._transport is None or self._lost is not None:
            raise _broken(self._container, self._lost)
        self._transport.write(data)
        if not self._writable.is_set():
            await self._writable.wait()
            if self._lost is not None:
                raise _broken(self._container, self._lost)

    async def close(self) -> None:
        """See ``Channel``."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def is_whole(self) -> bool:
        """See ``Channel``."""
        return self._lost is None and self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Part of ``asyncio.Protocol``, as what follows."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Keep it until it is read."""
        self._unread.append(data)
        self._unread_bytes += len(data)
        if self._unread_bytes > UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def pause_writing(self) -> None:
        """The runner is behind."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits finds out; what came before can still be read."""
        self._lost = exc or EOFError()
        self._writable.set()
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


def _broken(container: str, error: BaseException | None) -> SandboxFaultError:
    return SandboxFaultError(message=f"the stream of container {container} broke: {error!r}")
