"""The connection to the Docker daemon, and what of it is asked besides containers."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import aiodocker
import aiohttp

from evalx.errors import ConfigurationError, DockerUnavailableError
from evalx.sandbox.spec import IMAGE_REVISION, LABEL_REVISION

#: Seconds for one call to dockerd. aiodocker has no limit of its own; a daemon that needs longer is in trouble.
DOCKER_CALL_TIMEOUT_S = 30.0
#: Seconds for a connect to the daemon's socket.
DOCKER_CONNECT_TIMEOUT_S = 5.0


def open_docker(url: str | None) -> aiodocker.Docker:
    """Connect to the daemon with limits that aiodocker does not set by itself.

    Every attached container holds a connection for its whole life, so the number of connections must not be bounded.
    """
    address = url or "unix:///var/run/docker.sock"
    if address.startswith("unix://"):
        connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path=address.removeprefix("unix://"), limit=0)
        address = "unix://localhost"
    else:
        connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=DOCKER_CALL_TIMEOUT_S, sock_connect=DOCKER_CONNECT_TIMEOUT_S)
    return aiodocker.Docker(url=address, connector=connector, timeout=timeout)


async def close_docker(docker: aiodocker.Docker) -> None:
    """Disconnect; aiodocker leaves a connector that it was given to whoever gave it."""
    await docker.close()
    if docker.connector is not None:
        await docker.connector.close()


async def toolchain_digest(docker: aiodocker.Docker, image: str) -> str:
    """The content digest of an image: what a result was compiled and run with.

    Raises:
        ConfigurationError: the image is not on this machine, or was built for another version of evalx.
        DockerUnavailableError: the daemon does not answer.
    """
    try:
        found = await docker.images.inspect(image)
    except (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError) as error:
        # aiodocker reports a socket that is not there as an error of the daemon, too.
        if isinstance(error, aiodocker.DockerError) and error.status == HTTPStatus.NOT_FOUND:
            raise ConfigurationError(
                f"image {image} is not there: build the images with docker/build-images.sh"
            ) from error
        raise DockerUnavailableError(message=f"the Docker daemon does not answer: {error!r}") from error
    if (wrong := wrong_revision(found)) is not None:
        raise ConfigurationError(f"image {image} {wrong}: build the images again with docker/build-images.sh")
    return str(found["Id"])


def wrong_revision(found: Mapping[str, Any]) -> str | None:
    """What is wrong with an image, as Docker describes it, that lacks what this worker relies on; None for nothing."""
    revision = (found["Config"].get("Labels") or {}).get(LABEL_REVISION)
    return None if revision == IMAGE_REVISION else f"has revision {revision or 'none'}, wanted is {IMAGE_REVISION}"
