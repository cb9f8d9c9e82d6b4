"""The ids that have been seen, as many as there is room for."""

from __future__ import annotations

from collections import OrderedDict

#: Ids that are remembered: 10 to 30 MB of memory, depending on their length. A repeat comes after a crash or a
#: rebalance, within seconds of the first; a service that reads 1,000 results a second still knows the last 100 s.
REMEMBERED = 100_000


class SeenIds:
    """Remembers the last ids that it was told, each with what stands for its content; forgets the oldest."""

    def __init__(self, most: int = REMEMBERED) -> None:
        self._most = most
        self._contents: OrderedDict[str, bytes] = OrderedDict()

    def __len__(self) -> int:
        return len(self._contents)

    def add(self, submission_id: str, content: bytes = b"") -> bytes | None:
        """Remember an id; the content that it had before, None if it is new."""
        known = self._contents.get(submission_id)
        self._contents.setdefault(submission_id, content)
        self._contents.move_to_end(submission_id)
        if len(self._contents) > self._most:
            self._contents.popitem(last=False)
        return known
