"""Which files containers keep, so that a program that runs again in the same container is not sent again.

The worker names what a job wants kept by ids (``Names``): equal content and mode, equal id. Ids are counted and mean
nothing by themselves, so nobody can make a program that passes for another. For each container it knows what was sent
(``Held``), and by the runner's own rule (``docker/sandbox/runner/kept.c``) what has made room since; when the two
disagree all the same, the runner asks for the content.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Iterable

from evalx.sandbox.protocol import File, Job

#: What a container keeps at most: files, and bytes together. Those of ``protocol.h``.
KEPT_FILES = 24
KEPT_BYTES = 32 << 20
#: Smaller files are sent each time: a frame with a page of content costs no more than one without.
MIN_BYTES = 4096
#: Bytes of content that the worker holds to know it again: as much as a container keeps.
KNOWN_BYTES = KEPT_BYTES


class Names:
    """Gives ids to files, the same to the same content, for all containers of a runtime."""

    def __init__(self) -> None:
        self._next = itertools.count(1)
        self._known: OrderedDict[tuple[bytes, int], int] = OrderedDict()
        self._bytes = 0

    def of(self, job: Job) -> tuple[int, ...]:
        """The id of each file of a job, 0 = it is not to be kept; none when nothing is."""
        if not job.keep_files or len(job.files) > KEPT_FILES:
            return ()
        return tuple(map(self._id, job.files))

    def _id(self, file: File) -> int:
        if not MIN_BYTES <= len(file.data) <= KEPT_BYTES:
            return 0
        key = (file.data, file.mode)
        if (known := self._known.pop(key, None)) is not None:
            # With the bytes that were asked for last: the same object need not be compared by content next time.
            self._known[key] = known
            return known
        self._known[key] = fresh = next(self._next)
        self._bytes += len(file.data)
        while self._bytes > KNOWN_BYTES:
            (data, _), _ = self._known.popitem(last=False)
            self._bytes -= len(data)
        return fresh


class Held:
    """What one container keeps, in the order of use."""

    def __init__(self) -> None:
        self._sizes: OrderedDict[int, int] = OrderedDict()

    def __contains__(self, file_id: int) -> bool:
        return file_id in self._sizes

    def holds_all(self, ids: Iterable[int]) -> bool:
        """Whether nothing of this has to be sent."""
        return all(file_id == 0 or file_id in self._sizes for file_id in ids)

    def use(self, file_id: int) -> None:
        """It was placed from what is kept."""
        self._sizes.move_to_end(file_id)

    def add(self, file_id: int, size: int) -> None:
        """It was sent, of so many bytes; what was used longest ago makes room."""
        self._sizes.pop(file_id, None)
        while self._sizes and (len(self._sizes) >= KEPT_FILES or sum(self._sizes.values()) + size > KEPT_BYTES):
            self._sizes.popitem(last=False)
        self._sizes[file_id] = size
