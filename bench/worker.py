"""A worker of a bench: the image that operators deploy, as the composition starts it, with this checkout's code.

A worker in the project's own virtual environment would be measured with whatever Python this machine has, of which some
builds take twice the time for the same loop; the image's is what everybody gets.
"""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from pathlib import Path

import evalx
from bench.docker_cli import docker

#: Seconds for a worker to be ready: usually five, more on a machine that is busy with other things.
READY_S = 120.0
#: Seconds between two looks at whether it is: starts are in no figure.
LOOK_S = 0.1
#: Seconds to end by itself: it does within 15.
STOP_S = 20
#: Where the image has its code, and where its sockets are.
PACKAGE, SOCKETS = "/opt/app/evalx", "/run/evalx"
#: How the variables of evalx's settings begin; some have the names that the contract gives them.
SETTINGS = ("EVALX_", "CONTAINER_POOL_", "MAX_CONCURRENT_CONTAINERS", "POOL_SCALE_")
DAEMON = Path("/var/run/docker.sock")
PORT = 6066
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Worker:
    """One container that judges. ``await_ready`` before the first use, ``stop`` after the last."""

    def __init__(self, image: str, name: str, environment: dict[str, str]) -> None:
        self.name = name
        #: A volume that the daemon makes: sandboxes have parts of it mounted.
        self._volume = f"{name}-sockets"
        own = {
            "EVALX_WORKER_NAME": name,
            "EVALX_HEALTH_HOST": "0.0.0.0",
            "EVALX_HEALTH_PORT": str(PORT),
            "EVALX_LOG_JSON": "true",
            "EVALX_SOCKET_DIR": SOCKETS,
            "EVALX_SOCKET_VOLUME": self._volume,
        }
        # What somebody tries in a shell holds here as well.
        theirs = {key: value for key, value in os.environ.items() if key.startswith(SETTINGS)}
        settings = [f"--env={key}={value}" for key, value in {**theirs, **environment, **own}.items()]
        mounts = [f"{DAEMON}:{DAEMON}", f"{self._volume}:{SOCKETS}", f"{Path(evalx.__file__).parent}:{PACKAGE}:ro"]
        volumes = [f"--volume={mount}" for mount in mounts]
        try:
            group = f"--group-add={DAEMON.stat().st_gid}"
            docker("run", "-d", "--name", name, group, *volumes, *settings, image)
            self._process = int(docker("inspect", "-f", "{{.State.Pid}}", name))
            self._address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
        except BaseException:
            self.stop()
            raise

    def await_ready(self) -> None:
        """Return when it judges; raises RuntimeError when it does not come to that."""
        deadline = time.monotonic() + READY_S
        while not self._answers("/readyz"):
            running = docker("inspect", "-f", "{{.State.Running}}", self.name) == "true"
            if not running or time.monotonic() > deadline:
                raise RuntimeError(f"{self.name} is not ready:\n{self._log()[-2000:]}")
            time.sleep(LOOK_S)

    @property
    def cpu_s(self) -> float:
        """Seconds of CPU that the process has used, all its threads, user and system."""
        fields = Path(f"/proc/{self._process}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S

    @property
    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM."""
        pages = int(Path(f"/proc/{self._process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    @property
    def peak_bytes(self) -> int:
        """The most memory of the process that was in RAM so far."""
        status = Path(f"/proc/{self._process}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM:")).split()[1]) * 1024

    def metric(self, name: str) -> float:
        """The sum of a metric of its own over all labels."""
        with urllib.request.urlopen(f"http://{self._address}:{PORT}/metrics", timeout=5) as response:
            lines = response.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split()[0] == name)

    @property
    def descriptors(self) -> int:
        """Open descriptors of the process."""
        return len(docker("exec", self.name, "ls", "/proc/1/fd").split())

    def stop(self) -> None:
        """As an operator would; killed when that takes too long. Nothing of it is left."""
        commands = f"stop -t {STOP_S} {self.name}", f"rm -fv {self.name}", f"volume rm {self._volume}"
        for command in commands:
            subprocess.run(["docker", *command.split()], capture_output=True, check=False)

    def _log(self) -> str:
        done = subprocess.run(
            ["docker", "logs", self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.stdout

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self._address}:{PORT}{path}", timeout=5) as response:
                return bool(response.status == 200)
        except OSError:
            return False
