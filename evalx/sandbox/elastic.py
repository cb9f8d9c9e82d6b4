"""How many containers of each image there should be. Pure: no clock, no daemon; time and usage are passed in.

Theory of operation
===================
Each image has a *target*; the pool starts and removes containers until there are as many. Targets move for four
reasons:

- *Demand.* Somebody waits and no container is idle: one more, at once, at the cost of an idle container of another
  image when there is no room (``victim``, ``moved``).
- *Growth.* More than the upper threshold of the time of an image's containers was used since the last look: half as
  many again, but never more than can be busy at a time, which is one for each CPU slot.
- *Shrinking.* Less than the lower threshold was used for ``CALM_S``: half of what is above its share of the floor goes,
  and again after each ``STEP_S``. Two thresholds far apart, the wait, and that an image keeps one container for
  ``RECENT_S`` after its last use, keep the pool from starting today's container again tomorrow.
- *The allowance.* What all workers together may have can be taken back: targets are cut, those of calm images first.

The floor belongs to the images together: each gets its share, and those used last get the rest of the division. An
image whose share went to others gets it back as soon as there is room.

Worst case from the last use to the floor: ``RECENT_S`` + ``STEP_S``, or ``CALM_S`` + ``STEP_S`` x log2(containers)
where there are many: 45 s for 128. A look more for each may be added, and the time to remove them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import msgspec

#: Seconds that an image must be calm before its first containers go: a contest's lulls are shorter.
CALM_S = 10.0
#: Seconds between two steps of shrinking.
STEP_S = 5.0
#: Seconds for which an image keeps one container after its last use, also above the floor.
RECENT_S = 30.0

_NEVER = -math.inf


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What the pool must stay within. Thresholds are parts of 1."""

    #: Containers that are kept warm, of all images together.
    floor: int
    #: Containers of one image that can be busy at a time.
    useful: int
    scale_up: float
    scale_down: float


class Usage(msgspec.Struct, frozen=True):
    """What an image's containers did since the last look."""

    #: Those that are there, idle or busy.
    live: int
    #: The part of their time for which they were busy, 0 to 1.
    utilisation: float


class Elastic:
    """The targets of all images. All times are seconds of one monotonic clock."""

    def __init__(self, images: Iterable[str], bounds: Bounds, allowance: int) -> None:
        self._bounds = bounds
        self._allowance = allowance
        self._targets = dict.fromkeys(images, 0)
        self._used_at = dict.fromkeys(self._targets, _NEVER)
        self._calm_since = dict.fromkeys(self._targets, _NEVER)
        self._calm: set[str] = set()

    @property
    def total(self) -> int:
        """Containers that there should be of all images together."""
        return sum(self._targets.values())

    def target(self, image: str) -> int:
        """Containers of an image that there should be."""
        return self._targets[image]

    def warm(self, images: Iterable[str]) -> None:
        """One more of each, as far as the floor and the allowance go."""
        for image in images:
            if self.total < self._floor:
                self._targets[image] += 1

    def used(self, image: str, now: float) -> None:
        """A container of the image was asked for."""
        self._used_at[image] = now

    def needed(self, image: str, count: int) -> None:
        """So many containers of the image are there, or on their way to somebody who waits."""
        self._targets[image] = max(self._targets[image], count)

    def victim(self, idle: Mapping[str, int], image: str) -> str | None:
        """The image that must give an idle container to ``image``; ``idle`` has those that can, and how many they have.

        One that has several gives before one that would be left without, then that used longest ago.
        """
        others = [one for one in idle if one != image]
        return min(others, key=lambda one: (idle[one] <= 1, self._used_at[one]), default=None)

    def moved(self, victim: str) -> None:
        """A container of the image was taken away for another one."""
        self._targets[victim] = max(0, self._targets[victim] - 1)

    def allow(self, allowance: int) -> None:
        """So many containers may be here from now on."""
        self._allowance = allowance
        while self.total > allowance and (image := self._least_missed()) is not None:
            self._targets[image] -= 1

    def tick(self, now: float, usage: Mapping[str, Usage]) -> None:
        """Look at what was used since the last look, and move the targets."""
        for image, use in usage.items():
            self._observe(image, use, now)
        for image in sorted(usage, key=lambda one: -usage[one].utilisation):
            if usage[image].utilisation > self._bounds.scale_up:
                self._grow(image, usage[image].live, now)
        for image in usage:
            self._shrink(image, now)
        self._fill()

    @property
    def _floor(self) -> int:
        return min(self._bounds.floor, self._allowance)

    def _observe(self, image: str, use: Usage, now: float) -> None:
        calm = use.utilisation < self._bounds.scale_down
        if calm and image not in self._calm:
            self._calm_since[image] = now
        (self._calm.add if calm else self._calm.discard)(image)

    def _grow(self, image: str, live: int, now: float) -> None:
        if self._targets[image] > live:
            return  # what was decided before is still on its way
        wanted = min(self._bounds.useful, live + max(1, live // 2))
        while self._targets[image] < wanted:
            if self.total >= self._allowance:
                giver = self._giver(image, now)
                if giver is None:
                    return
                self._targets[giver] -= 1
            self._targets[image] += 1

    def _giver(self, image: str, now: float) -> str | None:
        """A calm image that can spare a container: growth, unlike demand, takes nobody's last one while it is used."""
        others = [one for one in self._targets if one != image and one in self._calm]
        spare = [one for one in others if self._targets[one] > self._least(one, now)]
        return min(spare, key=self._used_at.__getitem__, default=None)

    def _shrink(self, image: str, now: float) -> None:
        if image not in self._calm or now - self._calm_since[image] < CALM_S:
            return
        excess = self._targets[image] - max(self._shares()[image], self._least(image, now))
        # Others may be below their share: the floor holds for all together.
        cut = min(math.ceil(excess / 2), self.total - self._floor)
        if cut > 0:
            self._targets[image] -= cut
            self._calm_since[image] = now - CALM_S + STEP_S

    def _fill(self) -> None:
        each = self._floor // len(self._targets)
        for image, target in self._targets.items():
            # The rest of the division is for whoever was used last, and must not wander with every use.
            self._targets[image] += min(max(0, each - target), max(0, self._allowance - self.total))
        shares = self._shares()
        while self.total < self._floor:
            self._targets[max(shares, key=lambda one: shares[one] - self._targets[one])] += 1

    def _shares(self) -> dict[str, int]:
        """The floor by image; those used last get the rest of the division."""
        order = sorted(self._targets, key=lambda one: -self._used_at[one])
        each, rest = divmod(self._floor, len(order))
        return {image: each + (place < rest) for place, image in enumerate(order)}

    def _least(self, image: str, now: float) -> int:
        return int(now - self._used_at[image] < RECENT_S)

    def _least_missed(self) -> str | None:
        """Where a container is given up first: calm before busy, then that used longest ago."""
        there = [one for one, target in self._targets.items() if target > 0]
        return min(there, key=lambda one: (one not in self._calm, self._used_at[one]), default=None)
