"""Where and with what the figures were made."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

from bench import docker_cli, workload
from evalx.languages import Language, Registry
from evalx.settings import Settings

ROOT = Path(__file__).parents[1]
_VERSION_COMMANDS = {
    "c": "gcc --version",
    "cpp": "g++ --version",
    "python": "python3 --version",
    "java": "/opt/java/bin/java -version 2>&1",
    "javascript": "node --version",
}


def describe(settings_prefix: str, languages: Sequence[Language], go_judge: str | None) -> dict[str, str]:
    """Names and values, in the order in which they are shown."""
    facts = {
        "machine": f"{_cpu_model()}, {os.cpu_count()} cores, {_memory_gib():.0f} GiB",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "kernel": f"{platform.system()} {platform.release()}",
        "docker": docker_cli.docker("version", "--format", "{{.Server.Version}}"),
        "worker's python": platform.python_version(),
    }
    for language in languages:
        facts[language.title] = _toolchain(settings_prefix + language.image, language.name)
    facts["go-judge"] = "not measured: set GO_JUDGE" if go_judge is None else _first_line([go_judge, "-version"])
    facts["commit"] = _commit()
    return facts


def describe_stack(languages: Sequence[str], go_judge: Path | None) -> dict[str, str]:
    """The same, with the services; raises RejectedError for a language that is not known."""
    images, registry = Settings.load().image_prefix, Registry.load()
    found = [workload.resolve(registry, name) for name in languages]
    facts = describe(images, found, None if go_judge is None else str(go_judge))
    facts["worker's python"] = _in_image(f"{images}worker", "python3.13 --version").removeprefix("Python ")
    facts["Kafka"] = _in_image(f"{images}kafka", "ls /opt/kafka/libs | grep -o 'kafka_.*[0-9]' | head -n 1")
    facts["Redis"] = _in_image(f"{images}redis", "redis-server --version").partition(" sha")[0]
    return facts


def _toolchain(image: str, name: str) -> str:
    return _in_image(image, _VERSION_COMMANDS[name])


def _in_image(image: str, command: str) -> str:
    said = docker_cli.docker("run", "--rm", "--network", "none", "--entrypoint", "sh", image, "-c", command)
    return next(iter(said.splitlines()), "unknown")


def _commit() -> str:
    commit = _first_line(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    dirty = _first_line(["git", "-C", str(ROOT), "status", "--porcelain"])
    return f"{commit} ({'with changes' if dirty else 'clean'})"


def _first_line(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        return f"unknown ({error.strerror})"
    return next(iter(done.stdout.splitlines()), "")


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _memory_gib() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
