"""Who waits for which submission, and which of what is read is the answer to whose.

Theory of operation
===================
Every record that a worker takes is answered with a result of its own, which names the record in its header
``evalx-submission`` (PARTITION:OFFSET). That alone tells whose it is: an id may be used twice by mistake, and then
there are two results under it, the verdict of one content and the rejection of the other.

- The place of a record is known when the broker has confirmed it; its result may be read earlier than that, and is
  held until then.
- A result without the header, of a worker that knows it not, is the answer to all who wait for its id.
"""

from __future__ import annotations

import asyncio
from typing import Any, TypeAlias

import msgspec
import structlog

from evalx.errors import EvalxError, RejectedError
from evalx.messages import PLACE_HEADER, Result, decode_result

log = structlog.get_logger(__name__)

#: Results of one id that are held until the broker's confirmation is read. One is usual, none more so.
HELD = 16

#: Partition and offset of a submission.
Place: TypeAlias = tuple[int, int]


class Pending:
    """One submission under way, and the promise of its result. ``content`` stands for what was sent."""

    def __init__(self, submission_id: str, content: bytes) -> None:
        self.id = submission_id
        self.content = content
        self.future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self.place: Place | None = None
        self._held: dict[Place, Result] = {}

    def confirmed(self, place: Place) -> None:
        """The broker has taken it."""
        self.place = place
        if place in self._held:
            self._answer(self._held[place])
        self._held.clear()

    def heard(self, result: Result, place: Place | None) -> None:
        """A result of its id was read, which is that of the record at this place."""
        if place is None or place == self.place:
            self._answer(result)
        elif self.place is None and len(self._held) < HELD:
            self._held[place] = result

    def fail(self, error: EvalxError) -> None:
        """There will be no result."""
        if not self.future.done():
            self.future.set_exception(error)
            # Whoever never asks for the result is not to be told of an exception that was never retrieved.
            self.future.exception()

    def _answer(self, result: Result) -> None:
        # A repeat changes nothing: who waits gets the first one.
        if not self.future.done():
            self.future.set_result(result)


class Waiting:
    """All submissions that somebody waits for, by id."""

    def __init__(self) -> None:
        self._pending: dict[str, set[Pending]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._pending.values()))

    def expect(self, submission_id: str, content: bytes) -> Pending:
        """Wait for a submission that is about to be sent.

        Raises:
            RejectedError: it is under way with other content.
        """
        known = self._pending.get(submission_id, set())
        if any(one.content != content for one in known):
            text = f"id {submission_id!r} is under way with other content; use a new id"
            raise RejectedError("conflict", text, "id")
        pending = Pending(submission_id, content)
        self._pending[submission_id] = known | {pending}
        return pending

    def forget(self, pending: Pending) -> None:
        """Wait no longer."""
        left = self._pending.get(pending.id, set()) - {pending}
        if left:
            self._pending[pending.id] = left
        else:
            self._pending.pop(pending.id, None)

    def fail(self, error: EvalxError) -> None:
        """There will be no more results."""
        for known in self._pending.values():
            for pending in known:
                pending.fail(error)

    def take(self, record: Any) -> None:
        """A record of the results: only its key is looked at, unless somebody waits for it."""
        known = self._pending.get((record.key or b"").decode("utf-8", "replace"))
        if not known:
            return
        result = understand(record)
        if result is not None:
            place = _place(record)
            for pending in known:
                pending.heard(result, place)


def understand(record: Any) -> Result | None:
    """The result that a record holds; a damaged one is logged and passed over."""
    try:
        return decode_result(record.value or b"")
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        log.warning("result_not_understood", key=record.key, error=str(error))
        return None


def _place(record: Any) -> Place | None:
    value = next((value for name, value in record.headers or () if name == PLACE_HEADER), b"")
    partition, _, offset = (value or b"").decode("utf-8", "replace").partition(":")
    return (int(partition), int(offset)) if partition.isdecimal() and offset.isdecimal() else None
