"""Judgements that are kept decoded: those that are asked for again and again need no decoding."""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

from evalx.engine import Judgement
from evalx.metrics import CACHE_MEMORY_BYTES

#: Bytes of encoded answers in all, and of one: all of a contest of a thousand batches with 20 tests.
MAX_BYTES = 6 << 20
LARGEST_BYTES = 16 << 10
#: What is kept takes so many times the bytes of the encoded answer (measured: 2.2 to 2.9), so 18 MiB at most.
TIMES = 3


class Form(NamedTuple):
    """What a judgement was made of: a packed answer, for tests of these ids in this order."""

    packed: bytes
    ids: tuple[str, ...]
    fingerprints: tuple[bytes, ...]


class Ready:
    """Judgements by the key of their batch, those used last."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._entries: OrderedDict[str, tuple[Form, Judgement, int]] = OrderedDict()
        self._max_bytes = max_bytes
        self._bytes = 0
        CACHE_MEMORY_BYTES.labels("ready").set_function(lambda: self._bytes * TIMES)

    def get(self, key: str, form: Form) -> Judgement | None:
        """The judgement of a batch, if it was made of exactly this."""
        entry = self._entries.get(key)
        if entry is None or entry[0] != form:
            return None
        self._entries.move_to_end(key)
        return entry[1]

    def put(self, key: str, form: Form, judgement: Judgement, size: int) -> None:
        """Keep a judgement whose answer has ``size`` bytes; what was used longest ago makes room."""
        self._forget(key)
        if size > LARGEST_BYTES:
            return
        self._entries[key] = (form, judgement, size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._bytes -= entry[2]
