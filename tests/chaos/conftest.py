"""The chaos suite; ``README.md`` says what it is and how it is run."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from integration_stack import Services

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from chaos_scene import OpenScene, Scene, Size, running, scene  # noqa: E402
from mutants import MUTANTS  # noqa: E402
from side_by_side import SideBySide  # noqa: E402

#: Seconds for one scenario of each size, a bound for hangs.
LIMIT_S = {False: 240, True: 1800}
#: Seconds for a stand-in, which may have to wait for all others: their limits would have to end several in turn.
TIMEOUT_S = {False: 900, True: 3600}
#: Scenarios of each size that run side by side.
AT_ONCE = {False: 3, True: 1}
LOG_TAIL = 4000

_BESIDE = pytest.StashKey[SideBySide]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kills(*mutants): this test must fail with each of these mutants")
    config.addinivalue_line("markers", "alone: measures latencies, so no other scenario runs beside it")
    long = config.getoption("--chaos-long")
    config.stash[_BESIDE] = SideBySide(config.getoption("--chaos-at-once") or AT_ONCE[long], LIMIT_S[long])


# Last: what -k leaves out must not be begun.
@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    mutant = config.getoption("--mutant")
    if mutant is not None and mutant not in MUTANTS:
        raise pytest.UsageError(f"--mutant {mutant}: there are {', '.join(MUTANTS)}")
    ours = [item for item in items if HERE in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.integration)
        item.add_marker(pytest.mark.timeout(TIMEOUT_S[config.getoption("--chaos-long")]))
    if mutant is not None:
        killers = [item for item in ours if any(mutant in mark.args for mark in item.iter_markers("kills"))]
        config.hook.pytest_deselected(items=[item for item in items if item not in killers])
        items[:] = killers
        ours = killers
    alone = [item for item in ours if item.get_closest_marker("alone")]
    beside = [item for item in ours if item not in alone]
    for item in ours:
        assert isinstance(item, pytest.Function)
        config.stash[_BESIDE].stand_in(item, alone=item in alone)
    # Those that are alone come last, when no other is left.
    first = min((items.index(item) for item in ours), default=0)
    others = [item for item in items if item not in ours]
    items[:] = [*others[:first], *beside, *alone, *others[first:]]


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of the log of every worker of a failed scenario."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and item.nodeid in (runs := item.config.stash[_BESIDE].runs):
        for worker in runs[item.nodeid].workers:
            report.sections.append((f"log of {worker.name}", worker.log.read_text(errors="replace")[-LOG_TAIL:]))


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Redis for the scenarios that break neither."""
    with running(tmp_path_factory.mktemp("chaos")) as services:
        yield services


@pytest.fixture(scope="session")
async def open_scene(request: pytest.FixtureRequest, services: Services) -> AsyncIterator[OpenScene]:
    """Opens a scenario by name: ``async with open_scene("name") as scene``; the last ones end with the session."""
    option = request.config.getoption
    size = Size(option("--chaos-long"))
    seed = secrets.randbelow(1_000_000) if option("--chaos-seed") is None else int(option("--chaos-seed"))

    def make(name: str, **options: Any) -> contextlib.AbstractAsyncContextManager[Scene]:
        return scene(services, name, size, seed, option("--mutant"), **options)

    yield make
    await request.config.stash[_BESIDE].close()
