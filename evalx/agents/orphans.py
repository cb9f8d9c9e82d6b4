"""Removes sandbox containers whose worker has died.

A running container looks after itself: when its worker dies, its channel ends and its runner exits (see
``sandbox.container``). What can remain is a container that was created and never started, or one whose end dockerd did
not see. It is an orphan when the lease of the process that made it, named by a label, is gone, and still is after a
living one would have renewed it: a Redis that was emptied makes no orphans. Only containers of the same scope are
looked at: nothing can be known here of workers that keep their leases in another Redis.
"""

from __future__ import annotations

import asyncio
import time

import structlog

from evalx.cache.leases import RENEW_INTERVAL_S, WorkerLease
from evalx.errors import DockerUnavailableError
from evalx.sandbox.runtime import FoundContainer, SandboxRuntime
from evalx.sandbox.spec import LABEL_LEASE, LABEL_OWNER, LABEL_SCOPE

log = structlog.get_logger(__name__)

#: Seconds until a lease that is gone is looked for again: whoever lives renews it, with a call that may take 2.
CONFIRM_S = RENEW_INTERVAL_S + 2.0
#: Seconds between looks; with the lease of 15 s and the second look an orphan is gone at most 30 s after its worker has
#: died.
INTERVAL_S = 8.0
#: Seconds for which a young container is left alone: its owner's lease may not have been seen yet.
MIN_AGE_S = 5.0


class OrphanReaper:
    """Looks for orphans at the start, and from time to time."""

    def __init__(self, sandbox: SandboxRuntime, lease: WorkerLease) -> None:
        self._sandbox = sandbox
        self._lease = lease
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Remove what is there now, and go on in the background."""
        self._task = asyncio.create_task(self._loop())

    @property
    def task(self) -> asyncio.Task[None] | None:
        """What looks from time to time; it ends only when it is stopped."""
        return self._task

    async def stop(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def reap(self) -> int:
        """Remove the orphans that there are and return how many, and folders of sockets, which are not counted."""
        if folders := self._sandbox.sweep():
            log.info("socket_folders_removed", count=folders)
        if not self._lease.scope:
            return 0
        found = [
            container
            for container in await self._sandbox.find_containers({LABEL_SCOPE: self._lease.scope})
            if container.created_at < time.time() - MIN_AGE_S
        ]
        orphans = await self._orphans(found)
        for orphan in orphans:
            log.info("orphan_removed", container=orphan.id[:12], owner=orphan.labels[LABEL_OWNER])
            await self._sandbox.remove_container(orphan.id)
        return len(orphans)

    async def _orphans(self, found: list[FoundContainer]) -> list[FoundContainer]:
        # One that an older version made has a label less; its runner ends it, or an operator.
        named = {container.labels[LABEL_LEASE] for container in found if container.labels.get(LABEL_LEASE)}
        if dead := await self._lease.dead(named):
            await asyncio.sleep(CONFIRM_S)
            dead &= await self._lease.dead(dead)
        return [container for container in found if container.labels.get(LABEL_LEASE) in dead]

    async def _loop(self) -> None:
        while True:
            try:
                await self.reap()
            except DockerUnavailableError as error:
                log.warning("orphans_not_looked_for", error=str(error))
            await asyncio.sleep(INTERVAL_S)
