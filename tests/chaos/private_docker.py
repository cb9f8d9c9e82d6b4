"""A Docker daemon of the test's own, to be restarted and frozen; the machine's daemon serves others and is left alone.

It has its own data, socket and containerd namespace, and it runs in a network namespace of its own: a daemon that is
started with ``--bridge=none`` removes ``docker0``, which must not be the one of the machine. Sandboxes need no network.
Of the images only the one of Python is copied to it, and the other sandboxes' names are given to the same image,
because a worker asks for the digest of each when it starts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path

from integration_stack import docker

#: Seconds for the daemon to answer after its start.
START_LIMIT_S = 60.0
IMAGE = "sandbox-python"
OTHER_IMAGES = ("sandbox-c-cpp", "sandbox-java21", "sandbox-java25", "sandbox-javascript")
#: Paths of sockets are at most 107 bytes, and pytest's temporary folders are longer than that.
SOCKETS = Path("/run")


class PrivateDocker:
    """``start`` and ``stop`` may be called again and again; what it has loaded stays until ``remove``."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._name = name
        self._short = SOCKETS / f"evalx-test-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._prefix = os.environ.get("EVALX_IMAGE_PREFIX", "evalx-")

    @property
    def host(self) -> str:
        return f"unix://{self._short}/docker.sock"

    async def start(self) -> None:
        """Start the daemon on its data."""
        await asyncio.to_thread(self._launch)
        deadline = time.monotonic() + START_LIMIT_S
        while not (await asyncio.to_thread(self._docker, "version", "-f", "{{.Server.Version}}", check=False)):
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "dockerd.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the private daemon does not answer"
            await asyncio.sleep(0.2)

    def _launch(self) -> None:
        self._short.mkdir(exist_ok=True)
        command = [
            *("unshare", "--net", "dockerd"),
            *("--data-root", str(self._folder / "data"), "--exec-root", str(self._short / "exec")),
            *("--pidfile", str(self._short / "pid"), "--host", self.host),
            *("--containerd-namespace", self._name, "--containerd-plugins-namespace", f"{self._name}-plugins"),
            *("--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false"),
        ]
        with (self._folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    async def load_images(self) -> None:
        """Copy the image of Python's sandbox, and call it by the others' names as well."""
        image = self._prefix + IMAGE
        copy = f"set -o pipefail; docker save {image} | docker --host {self.host} load"
        done = await asyncio.to_thread(subprocess.run, ["bash", "-c", copy], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for other in OTHER_IMAGES:
            await asyncio.to_thread(self._docker, "tag", image, self._prefix + other)

    def signal(self, number: signal.Signals) -> None:
        """To the daemon's own process."""
        assert self._process is not None
        self._process.send_signal(number)

    async def stop(self) -> None:
        """SIGTERM: the daemon ends its containers and itself."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._process.terminate()
        await asyncio.to_thread(self._process.wait, START_LIMIT_S)

    async def remove(self) -> None:
        """Stop it for good, and remove what the operating system would keep."""
        if self._process is not None and self._process.poll() is None:
            await self.stop()
        await asyncio.to_thread(subprocess.run, ["rm", "-rf", str(self._folder / "data"), str(self._short)], check=True)

    def containers(self, owner: str) -> list[str]:
        """Ids of a worker's sandboxes."""
        return self._docker("ps", "-aq", "--filter", f"label=org.evalx.owner={owner}").split()

    def _docker(self, *arguments: str, check: bool = True) -> str:
        return docker("--host", self.host, *arguments, check=check)


@contextlib.asynccontextmanager
async def private_docker(folder: Path) -> AsyncIterator[PrivateDocker]:
    """One with images, in a folder of its own below this one."""
    name = f"evalx-{secrets.token_hex(4)}"
    (folder / name).mkdir()
    daemon = PrivateDocker(folder / name, name)
    try:
        await daemon.start()
        await daemon.load_images()
        yield daemon
    finally:
        await daemon.remove()
