"""A folder of sockets, so that runners reach their worker without the Docker daemon between them.

Theory of operation
===================
For each container that it starts, the worker makes a folder with one listening socket (a ``Doorway``) and has it
mounted into the container, read-only. The runner is told to come there (see ``protocol``, MOVE), connects, and names
the token that it was told over Docker's stream. It is handed one end of a pair of sockets, which is the container's
lease from then on; listener, connection and folder are gone. The pair has no name: an accepted socket would bear that
of the listener, for all to see in the container's ``/proc/net/unix``.

*Who can come.* All folders are this user's alone (0700). The runner passes by its capability DAC_OVERRIDE; a program
has none, and nothing is there any more when the first one starts. A container sees its own folder and no other.

*Where it does not work* (a daemon on another machine or in another user namespace, a folder that the daemon does not
see, an image that is older, a security module that minds) frames go on over Docker's stream; that is said once.

*What is left behind.* A worker holds a lock on its folder, which ends with it however it ends: a folder that can be
locked is nobody's, and is removed by whoever finds it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import secrets
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias
from urllib.parse import quote

import aiodocker
import aiohttp
import structlog

from evalx.sandbox.channel import SocketChannel
from evalx.sandbox.protocol import MOVE_TOKEN_BYTES
from evalx.settings import Settings

log = structlog.get_logger(__name__)

#: Is told, once each, why frames go over Docker's stream.
Say: TypeAlias = Callable[[str], None]

#: Where a runner looks: MOVE_PATH of docker/sandbox/runner/protocol.h.
MOUNT_POINT = "/run/evalx"
SOCKET_NAME = "worker"

#: A worker's folder begins so; what else is in the directory is not touched.
_PREFIX = "w-"
#: Bytes that the path of a socket may have in Linux, without the NUL at its end.
_LONGEST_PATH = 107


class Doorway:
    """Where the runner of one container comes to. ``close`` it when it has come, or will not."""

    def __init__(self, folder: Path, host_folder: Path) -> None:
        self.token = secrets.token_bytes(MOVE_TOKEN_BYTES)
        self._folder = folder
        self._host_folder = host_folder
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.setblocking(False)
            self._listener.bind(os.fspath(folder / SOCKET_NAME))
            self._listener.listen(1)
        except OSError:
            self.close()
            raise

    @property
    def mount(self) -> dict[str, Any]:
        """What Docker is asked to show to the container."""
        return {"Type": "bind", "Source": os.fspath(self._host_folder), "Target": MOUNT_POINT, "ReadOnly": True}

    async def receive(self, container: str) -> SocketChannel | None:
        """A channel to the runner that has come; None if it is not the one that was told the token."""
        loop = asyncio.get_running_loop()
        connection, _ = await loop.sock_accept(self._listener)
        with connection:
            connection.setblocking(False)
            if not secrets.compare_digest(await loop.sock_recv(connection, MOVE_TOKEN_BYTES), self.token):
                return None
            ours, theirs = socket.socketpair()
            with theirs:
                socket.send_fds(connection, [b"\0"], [theirs.fileno()])
        return await SocketChannel.over(ours, container)

    def close(self) -> None:
        """Leave nothing to be found, here and in the container."""
        self._listener.close()
        with contextlib.suppress(OSError):
            (self._folder / SOCKET_NAME).unlink()
        with contextlib.suppress(OSError):
            self._folder.rmdir()


class Sockets:
    """The folder of this worker. ``open_sockets`` makes one, ``close`` removes it."""

    def __init__(self, folder: Path, host_folder: Path, lock: int, say: Say) -> None:
        #: Whether a container was started with a folder of ours: then it is not our fault when another is not.
        self.proven = False
        self._folder = folder
        self._host_folder = host_folder
        self._lock = lock
        self._usable = True
        self._say = say
        self._told: set[str] = set()

    def doorway(self) -> Doorway | None:
        """A new one, unless it would be of no use."""
        if not self._usable:
            return None
        try:
            folder = Path(tempfile.mkdtemp(prefix="", dir=self._folder))
            return Doorway(folder, self._host_folder / folder.name)
        except OSError as error:
            self.tell(f"no socket can be made: {error}")
            return None

    def give_up(self, reason: str) -> None:
        """Make no more of them."""
        self._usable = False
        self.tell(reason)

    def tell(self, reason: str) -> None:
        """Say, once, why frames go over Docker's stream."""
        if reason not in self._told:
            self._told.add(reason)
            self._say(reason)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os.close(self._lock)


def log_reason(reason: str) -> None:
    """Tell an operator why frames go over Docker's stream."""
    log.info("frames_go_through_docker", reason=reason)


async def open_sockets(docker: aiodocker.Docker, settings: Settings, say: Say = log_reason) -> Sockets | None:
    """A folder for this worker, and none left of those that have died; None where sockets are of no use."""
    if not settings.direct_sockets:
        return None
    if settings.docker_host is not None and not settings.docker_host.startswith("unix://"):
        say("the daemon may be on another machine")
        return None
    try:
        directory = _private(settings.socket_dir)
        host_directory = await _host_directory(docker, settings) or directory
        sweep(settings)
        return _claim(directory, host_directory, say)
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        say(f"no folder for sockets: {error}")
        return None


def sweep(settings: Settings) -> int:
    """Remove the folders of workers that have died, and return how many; never raises."""
    removed = 0
    with contextlib.suppress(OSError):
        for folder in settings.socket_dir.glob(f"{_PREFIX}*"):
            with _locked(folder) as lock:
                if lock is not None:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
    return removed


async def _host_directory(docker: aiodocker.Docker, settings: Settings) -> Path | None:
    """What the daemon calls the directory, if that is a volume which is mounted into the worker's own container."""
    if settings.socket_volume is None:
        return None
    volume: dict[str, Any] = await docker._query_json(f"volumes/{quote(settings.socket_volume, safe='')}")
    return Path(volume["Mountpoint"])


def _private(directory: Path) -> Path:
    """Make the directory, if need be, and make sure that it is this user's and nobody else's."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{directory} is not a folder of this user alone")
    return directory.resolve()


def _claim(directory: Path, host_directory: Path, say: Say) -> Sockets:
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=directory))
        if len(os.fsencode(folder / "12345678" / SOCKET_NAME)) > _LONGEST_PATH:
            folder.rmdir()
            raise OSError(f"{directory} is too long for the path of a socket")
        lock = _try_lock(folder)
        if lock is not None and folder.exists():
            return Sockets(folder, host_directory / folder.name, lock, say)
        # Somebody has taken it for one that was left behind.
        if lock is not None:
            os.close(lock)


def _try_lock(folder: Path) -> int | None:
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    except OSError:
        os.close(lock)
        raise
    return lock


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[int | None]:
    lock = _try_lock(folder)
    try:
        yield lock
    finally:
        if lock is not None:
            os.close(lock)
