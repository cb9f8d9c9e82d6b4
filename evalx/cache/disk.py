"""Compiled programs on the local disk: shared by the workers of a machine, still there after a restart.

One file a program, written beside and then renamed, so that nobody reads half of one. What a crash leaves torn, its
checksum tells (see ``values``). The files are data to this process, never run on the host.

The folder is bounded by bytes: what was not used for the longest time goes first. Each process counts what it writes
and looks at the folder again after a sixteenth of the bound, so n processes exceed it by n sixteenths at most.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
import time
from pathlib import Path

import structlog

log = structlog.get_logger(__name__)

#: Part of the bound that one program may have, and that may be written before the folder is looked at again.
LARGEST_PART = 1 / 8
UNSEEN_PART = 1 / 16
#: Part of the bound that is left when room is made.
ROOM_PART = 0.9
#: Seconds after which a file that was never renamed is what a crash has left.
TORN_AGE_S = 600.0
_TORN = ".new-"


class DiskStore:
    """Packed values by key in a folder of this user's. Its methods block; none of them raises."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._unseen: float = max_bytes
        self._usable = max_bytes > 0 and _is_own(folder)

    def get(self, key: str) -> bytes | None:
        """The packed value, marked as used; None when there is none."""
        if not self._usable:
            return None
        path = self._path(key)
        try:
            packed = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return packed

    def put(self, key: str, packed: bytes) -> None:
        """Keep a packed value, if there is room for it."""
        if not self._usable or len(packed) > self._max_bytes * LARGEST_PART:
            return
        try:
            self._make_room(len(packed))
            self._write(self._path(key), packed)
        except OSError as error:
            log.warning("artifact_not_kept", folder=str(self._folder), error=str(error))

    def drop(self, key: str) -> None:
        """Forget a value that is of no use."""
        with contextlib.suppress(OSError):
            self._path(key).unlink()

    def _write(self, path: Path, packed: bytes) -> None:
        descriptor, name = tempfile.mkstemp(prefix=_TORN, dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(packed)
            Path(name).replace(path)
        except OSError:
            with contextlib.suppress(OSError):
                Path(name).unlink()
            raise

    def _make_room(self, size: int) -> None:
        self._unseen += size
        if self._unseen < self._max_bytes * UNSEEN_PART:
            return
        self._unseen = 0
        oldest_first = sorted(self._files())
        left = sum(bytes_ for _, bytes_, _ in oldest_first) + size
        if left <= self._max_bytes:
            return
        for _, bytes_, name in oldest_first:
            if left <= self._max_bytes * ROOM_PART:
                break
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()
                left -= bytes_

    def _files(self) -> list[tuple[float, int, str]]:
        """When each file was last used, its bytes and its name; what a crash has left is removed."""
        found = []
        for entry in os.scandir(self._folder):
            with contextlib.suppress(OSError):
                about = entry.stat(follow_symlinks=False)
                if entry.name.startswith(_TORN) and time.time() - about.st_mtime > TORN_AGE_S:
                    (self._folder / entry.name).unlink()
                else:
                    found.append((about.st_mtime, about.st_size, entry.name))
        return found

    def _path(self, key: str) -> Path:
        return self._folder / key.rpartition(":")[2]


def _is_own(folder: Path) -> bool:
    """Whether the folder is there, ours, and closed to others: what they put there would be judged as our program."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = folder.lstat()
    except OSError as error:
        log.warning("artifacts_not_on_disk", folder=str(folder), error=str(error))
        return False
    if stat.S_ISDIR(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022:
        return True
    log.warning("artifacts_not_on_disk", folder=str(folder), error="it is not this user's alone to write to")
    return False
