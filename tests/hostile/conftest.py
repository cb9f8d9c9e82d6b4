"""One arena for all hostile tests; see ``arena``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from arena import Arena

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.hostile)


@pytest.fixture(scope="session")
async def arena() -> AsyncIterator[Arena]:
    async with Arena.open() as arena:
        yield arena
