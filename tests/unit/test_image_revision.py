"""An image that was built for another version of evalx is refused when a worker starts, and not blamed on programs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from evalx.errors import ConfigurationError
from evalx.languages import Registry
from evalx.sandbox.daemon import toolchain_digest
from evalx.sandbox.spec import IMAGE_REVISION, LABEL_REVISION

SANDBOXES = Path(__file__).parents[2] / "docker" / "sandbox"


def docker_with(labels: dict[str, str] | None) -> Any:
    async def inspect(_image: str) -> dict[str, Any]:
        return {"Id": "sha256:1", "Config": {"Labels": labels}}

    return SimpleNamespace(images=SimpleNamespace(inspect=inspect))


async def test_the_revision_that_is_wanted():
    assert await toolchain_digest(docker_with({LABEL_REVISION: IMAGE_REVISION}), "i") == "sha256:1"


@pytest.mark.parametrize("labels", [None, {}, {LABEL_REVISION: "0"}])
async def test_another_revision(labels: dict[str, str] | None):
    with pytest.raises(ConfigurationError, match=r"image i has revision (none|0), .* build the images again"):
        await toolchain_digest(docker_with(labels), "i")


@pytest.mark.parametrize("image", Registry.load().images)
def test_the_dockerfiles_say_the_same(image: str):
    lines = (SANDBOXES / image.removeprefix("sandbox-") / "Dockerfile").read_text().splitlines()
    assert f"LABEL {LABEL_REVISION}={IMAGE_REVISION}" in lines
