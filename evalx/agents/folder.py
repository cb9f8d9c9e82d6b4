"""A folder of the worker's own below the system's temporary one, which a killed worker cannot remove itself.

Faust makes the folder even for an app without tables. Its owner keeps a lock on it for as long as it lives; the kernel
drops the lock when the process ends, however it ends, and also when it was in another container that shares the
folder. So whoever gets the lock of a folder knows that nobody needs it any more.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "evalx-faust-"
#: Seconds for which a folder is left alone: its owner may just be about to lock it, which takes microseconds.
MIN_AGE_S = 60.0


class WorkerFolder:
    """The folder, locked until ``remove``."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def remove_left_folders() -> list[Path]:
    """Remove the folders whose owners have died; those of other users are theirs to remove."""
    found = Path(tempfile.gettempdir()).glob(f"{PREFIX}*")
    return [folder for folder in found if _remove_if_left(folder)]


def _remove_if_left(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if time.time() - os.fstat(descriptor).st_mtime < MIN_AGE_S:
                return False
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
        return True
    return False
