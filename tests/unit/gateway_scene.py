"""A gateway with a Kafka and a Redis that are dictionaries, for the unit tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.testclient import TestClient

from evalx.gateway.app import Gateway
from evalx.messages import Result, Submission
from evalx.settings import Settings
from evalx.testing import FakeShelf, FakeWire, accepted

CODE = "print(input())"
ONE = {"language": "python", "code": CODE, "stdin": "1"}
NATIVE = {"language": "python", "code": CODE, "tests": [{"stdin": "1"}]}


class Scene:
    """One gateway, its fakes and a client."""

    def __init__(self, judge: Callable[[Submission], Result] | None = accepted, **settings: Any) -> None:
        self.settings = Settings(**settings)
        self.wire = FakeWire(judge)
        self.shelf = FakeShelf(self.settings)
        self.gateway = Gateway(self.settings, self.wire, self.shelf)
        self.client = TestClient(self.gateway.app)

    def post(self, path: str, document: Any, **options: Any) -> Any:
        return self.client.post(path, json=document, **options)

    def run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """In the gateway's loop."""
        assert self.client.portal is not None
        return self.client.portal.call(function, *arguments)
