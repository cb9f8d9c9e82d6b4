"""What the integration tests share: one Kafka, one Redis, one worker; see ``integration_stack``."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from integration_stack import RUN_LABEL, Services, Topics, Worker, docker, new_run, sandboxes

HERE = Path(__file__).parent
#: Characters of a worker's log that a failed test shows.
LOG_TAIL = 6000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Show the end of the log of every worker that ran during a failed test."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    services = item.session.stash.get(_SERVICES, None)
    if report.failed and services is not None:
        for worker in services.workers:
            if worker.log.stat().st_mtime > time.time() - report.duration - 1:
                report.sections.append((f"log of {worker.name}", worker.log.read_text(errors="replace")[-LOG_TAIL:]))


_SERVICES = pytest.StashKey[Services]()


@pytest.fixture(scope="session")
def services(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Kafka and Redis of this run; when they are gone, nothing else of the run may be left."""
    services = Services(new_run(), tmp_path_factory.mktemp("workers"))
    request.session.stash[_SERVICES] = services
    try:
        services.start()
        yield services
    finally:
        services.stop()
    _check_nothing_is_left(services)


def _check_nothing_is_left(services: Services) -> None:
    assert not docker("ps", "-aq", "--filter", f"label={RUN_LABEL}={services.run}")
    assert all(worker.process.poll() is not None for worker in services.workers)
    # A killed worker's containers end by themselves when their stdin closes; give dockerd the moment that it needs.
    deadline = time.monotonic() + 20
    while left := [one for worker in services.workers for one in sandboxes(owner=worker.name)]:
        assert time.monotonic() < deadline, f"sandboxes are left behind: {left}"
        time.sleep(0.2)


@pytest.fixture(scope="session")
def open_topics(services: Services) -> Callable[..., Topics]:
    """Makes topics with a prefix of their own: ``async with open_topics("name") as topics``."""

    def make(name: str, partitions: int = 12, **settings: object) -> Topics:
        topics = Topics(services, f"{services.run}.{name}", partitions)
        topics.create(**settings)
        return topics

    return make


@pytest.fixture(scope="session")
async def topics(open_topics: Callable[..., Topics]) -> AsyncIterator[Topics]:
    """The topics that most tests share, with a worker that judges what is sent to them."""
    async with open_topics("shared") as topics:
        worker = topics.worker()
        await worker.ready()
        try:
            yield topics
        finally:
            code, _ = await worker.stop()
        assert code == 0, f"{worker.name} exited with {code}"
        assert not sandboxes(owner=worker.name)


@pytest.fixture(scope="session")
def worker(topics: Topics) -> Worker:
    """The worker that judges the shared topics."""
    return topics.workers[0]
