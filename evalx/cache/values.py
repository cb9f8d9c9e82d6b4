"""How values are kept outside of this process: compressed, with a checksum, and with the name that they were put under.

Whatever does not come back as it was put, be it cut, flipped or another key's, is as good as none.
"""

from __future__ import annotations

import hashlib

import structlog
import zstandard

log = structlog.get_logger(__name__)

#: Level 1 is the fastest and halves the size of results and of binaries already.
ZSTD_LEVEL = 1
#: Bytes that a value may unpack to: more than the largest artifact (64 MiB) and its wrapping.
MAX_UNPACKED_BYTES = 80 << 20
#: Bytes of the name's digest in front of a value: enough to notice a value that is another one's.
_NAME_BYTES = 8

#: For the event loop's thread only; a context must not be used by two threads at a time.
_compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True)
_decompressor = zstandard.ZstdDecompressor()


def trimmed(encoded: bytes) -> bytes:
    """The same bytes, for what is kept: msgspec's encoder leaves its buffer as long as it was, half as much again."""
    return bytes(memoryview(encoded))


def pack(value: bytes, key: str = "", compressor: zstandard.ZstdCompressor = _compressor) -> bytes:
    """A value as it is kept; in another thread than the event loop's with a compressor of its own."""
    return compressor.compress(_name(key) + value)


def pack_elsewhere(value: bytes, key: str = "") -> bytes:
    """Like ``pack``, in any thread."""
    return pack(value, key, zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=True))


def unpack(packed: object, key: str | None = None) -> bytes | None:
    """The value, or None when it is damaged, or was put under another name than ``key`` (None: any name will do)."""
    return _unpack(packed, key, _decompressor)


def unpack_elsewhere(packed: object, key: str | None = None) -> bytes | None:
    """Like ``unpack``, in any thread."""
    return _unpack(packed, key, zstandard.ZstdDecompressor())


def _unpack(packed: object, key: str | None, decompressor: zstandard.ZstdDecompressor) -> bytes | None:
    if not isinstance(packed, bytes):
        return None
    try:
        # A size that is not stated, or a wrong one, would be believed with all the memory that there is.
        if not 0 <= zstandard.frame_content_size(packed) <= MAX_UNPACKED_BYTES:
            raise zstandard.ZstdError("no plausible size")
        value = decompressor.decompress(packed)
    except zstandard.ZstdError as error:
        log.warning("cache_value_damaged", key=key, error=str(error))
        return None
    if len(value) < _NAME_BYTES or (key is not None and value[:_NAME_BYTES] != _name(key)):
        log.warning("cache_value_damaged", key=key, error="it is another key's")
        return None
    return value[_NAME_BYTES:]


def _name(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=_NAME_BYTES).digest()
