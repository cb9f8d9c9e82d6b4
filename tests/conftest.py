"""What all tests share: the options. It also makes ``integration_stack`` importable from every folder of tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

# How long an example takes says more about the machine than about what is tested.
settings.register_profile("evalx", deadline=None)
settings.load_profile("evalx")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos", "the chaos suite, tests/chaos")
    group.addoption("--chaos-long", action="store_true", help="the sizes of the full suite instead of the short ones")
    group.addoption("--chaos-seed", type=int, default=None, help="the seed of the load and of what is broken when")
    group.addoption("--chaos-at-once", type=int, default=None, help="scenarios that run side by side")
    group.addoption("--mutant", default=None, help="run workers with this defect; the tests that name it must fail")
