"""A sandbox with the C and C++ image, for tests of how programs are compiled and linked."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from evalx.languages import Registry
from evalx.sandbox.runtime import SandboxRuntime
from evalx.settings import Settings

REGISTRY = Registry.load()
IMAGE = REGISTRY.resolve("c").image


@contextlib.asynccontextmanager
async def native_sandbox(owner: str) -> AsyncIterator[SandboxRuntime]:
    """With two containers at most; ``owner`` is the name by which leaks are found."""
    runtime = SandboxRuntime(Settings.load(container_cap=2), [IMAGE], REGISTRY.interpreters)
    await runtime.start(owner=owner, warm=[IMAGE])
    try:
        yield runtime
    finally:
        await runtime.close()
