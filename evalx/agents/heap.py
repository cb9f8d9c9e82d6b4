"""Lets the C library give memory back to the system once it is free, and not only when the process ends.

Theory of operation
===================
A fetch from Kafka brings megabytes in a few pieces, which live for milliseconds. glibc takes a large piece from the
system by ``mmap`` and gives it back when it is freed, but learns from the first one that such sizes are usual, and
from then on takes them from its heaps: up to 32 MiB. There they lie between small objects that live longer, and what
is freed stays with the process, as a rule for ever (measured: 90 MB of a worker that had answered 20,000 batches, all
in the heap of the consumer's thread; ``malloc_trim`` gave them back). Saying what is large switches that learning off.
"""

from __future__ import annotations

import contextlib
import ctypes

#: Of glibc's ``malloc.h``.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
#: Bytes from which memory is taken from the system by itself and given back at once: a fetch, a packed program, a large
#: submission. What an ordinary batch needs is far smaller and costs no system call.
LARGE_BYTES = 256 << 10
#: Bytes that may be free at the end of a heap: as many as come and go all the time, or each batch would ask the system.
SPARE_BYTES = 4 << 20


def give_back_what_is_free() -> bool:
    """For this process, from now on; False where the C library has no such settings (musl), and nothing is changed."""
    with contextlib.suppress(AttributeError):
        set_option = ctypes.CDLL(None).mallopt
        return bool(set_option(_M_MMAP_THRESHOLD, LARGE_BYTES) and set_option(_M_TRIM_THRESHOLD, SPARE_BYTES))
    return False
