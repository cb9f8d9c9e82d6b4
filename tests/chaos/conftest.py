"""The chaos suite; ``README.md`` says what it is and how it is run."""

from __future__ import annotations

import contextlib
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration_stack import RUN_LABEL, Services, docker, new_run

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from chaos_scene import OpenScene, Scene, Size, scene  # noqa: E402
from mutants import MUTANTS  # noqa: E402

#: Seconds for one scenario of each size, a bound for hangs.
TIMEOUT_S = {False: 300, True: 1800}
LOG_TAIL = 4000


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "kills(*mutants): this test must fail with each of these mutants")


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


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of the log of every worker that ran during a failed scenario."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    for services in item.session.stash.get(_SERVICES, []) if report.failed else []:
        for worker in services.workers:
            if worker.log.stat().st_mtime > time.time() - report.duration - 1:
                report.sections.append((f"log of {worker.name}", worker.log.read_text(errors="replace")[-LOG_TAIL:]))


_SERVICES = pytest.StashKey[list[Services]]()


@pytest.fixture(scope="session")
def size(request: pytest.FixtureRequest) -> Size:
    return Size(request.config.getoption("--chaos-long"))


@pytest.fixture(scope="session")
def seed(request: pytest.FixtureRequest) -> int:
    given = request.config.getoption("--chaos-seed")
    return secrets.randbelow(1_000_000) if given is None else int(given)


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Redis for the scenarios that break neither."""
    with _running(request, tmp_path_factory) as services:
        yield services


@pytest.fixture
def own_services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Redis for one scenario, to be broken."""
    with _running(request, tmp_path_factory) as services:
        yield services


@pytest.fixture
def open_scene(services: Services, size: Size, seed: int, request: pytest.FixtureRequest) -> OpenScene:
    """Opens a scenario by name: ``async with open_scene("name") as scene``."""

    def make(name: str, own: Services | None = None, **options: int) -> contextlib.AbstractAsyncContextManager[Scene]:
        return scene(own or services, name, size, seed, request.config.getoption("--mutant"), **options)

    return make


@contextlib.contextmanager
def _running(request: pytest.FixtureRequest, factory: pytest.TempPathFactory) -> Iterator[Services]:
    services = Services(new_run(), factory.mktemp("chaos"))
    request.session.stash.setdefault(_SERVICES, []).append(services)
    try:
        services.start()
        yield services
    finally:
        services.stop()
    assert not docker("ps", "-aq", "--filter", f"label={RUN_LABEL}={services.run}")
