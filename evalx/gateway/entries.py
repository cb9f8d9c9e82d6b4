"""What a gateway knows of a submission that it accepted, and how that is kept.

An entry is small while its submission waits: no code, no tests. 20,000 of them are some 20 MB.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec
import zstandard

from evalx.cache.values import trimmed

State: TypeAlias = Literal["queued", "processing", "finished"]

#: Level 1 is the fastest, and results are text.
_ZSTD_LEVEL = 1


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted submission.

    ``owner`` is the name of the bearer token that submitted it, empty without tokens; ``payer`` is what limits are
    counted by; ``instance`` is the gateway that waits for the result; ``content`` is the hash of the submission.
    """

    id: str
    owner: str
    payer: str
    instance: str
    lane: str
    language: str
    version: str
    tests: int
    content: bytes
    submitted_ms: int
    callback_url: str | None = None


class Entry(msgspec.Struct, frozen=True):
    """A ticket, and the result as it was on the topic once there is one."""

    ticket: Ticket
    packed: bytes | None = None

    @property
    def result(self) -> bytes | None:
        """The Result in JSON; None while it is awaited."""
        return None if self.packed is None else zstandard.ZstdDecompressor().decompress(self.packed)


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Entry)


def finished(ticket: Ticket, result: bytes) -> Entry:
    """The entry of a submission with its result."""
    return Entry(ticket, zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress(result))


def encode_entry(entry: Entry) -> bytes:
    """As it is kept in Redis and in memory."""
    return trimmed(_encoder.encode(entry))


def decode_entry(value: object) -> Entry | None:
    """An entry as it was kept; None for anything else, such as a value of another version."""
    try:
        return _decoder.decode(value) if isinstance(value, bytes) else None
    except msgspec.DecodeError:
        return None
