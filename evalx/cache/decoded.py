"""Values that were decoded a moment ago, so that whoever asks again gets the very same object.

A compiled program has a megabyte: decoding it copies that, and the new copy has to be hashed and compared again
wherever it is a key. For a source that comes in many batches that takes a millisecond of each.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Generic, TypeVar

from evalx.metrics import CACHE_MEMORY_BYTES

T = TypeVar("T")

#: Bytes of encoded values: as much as a container keeps of programs.
DECODED_BYTES = 32 << 20


class Decoded(Generic[T]):
    """What values were decoded to, by key, those used last; an entry is good for that very value only."""

    def __init__(self, max_bytes: int = DECODED_BYTES) -> None:
        self._entries: OrderedDict[str, tuple[bytes, T]] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0
        CACHE_MEMORY_BYTES.labels("decoded").set_function(lambda: self._bytes)

    def get(self, key: str, value: bytes) -> T | None:
        """What this value was decoded to, if it is known."""
        entry = self._entries.get(key)
        if entry is None or entry[0] is not value:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: str, value: bytes, decoded: T) -> None:
        """Remember it; what was used longest ago makes room."""
        self._forget(key)
        self._entries[key] = (value, decoded)
        self._bytes += len(value)
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= len(entry[0])
