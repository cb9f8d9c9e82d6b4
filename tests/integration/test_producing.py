"""The programs of docs/producing.md, taken from the document as they stand and run against a real Kafka."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration_stack import ROOT, RUN_LABEL, Topics, docker, eventually

DOCUMENT = ROOT / "docs" / "producing.md"
#: Seconds after which a program hangs: it gives up by itself after 120.
HANG_S = 200
JARS = (
    "kafka-clients",
    "jackson-core",
    "jackson-databind",
    "jackson-annotations",
    "slf4j-api",
    "lz4",
    "snappy",
    "zstd",
)


def block(section: str, language: str, number: int = 0) -> str:
    """A program of the document: the ``number``-th of this language under this heading."""
    (text,) = re.findall(rf"^## {section}\n(.*?)(?=^## |\Z)", DOCUMENT.read_text(), flags=re.DOTALL | re.MULTILINE)
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)[number]


async def run(*command: str) -> str:
    done = await asyncio.to_thread(lambda: subprocess.run(command, capture_output=True, timeout=HANG_S, check=False))
    assert done.returncode == 0, (done.stdout + done.stderr).decode(errors="replace")
    # Other tests' dead letters are on the topics, too, and need not be text.
    return done.stdout.decode(errors="replace")


async def shell(topics: Topics, script: str) -> str:
    """Run what the document shows, with this run's broker and topics."""
    theirs = script.replace("localhost:9092", topics.services.kafka).replace(" evalx.", f" {topics.prefix}.")
    assert theirs.count(topics.services.kafka) == theirs.count(f" {topics.prefix}.") > 0
    return await run("bash", "-euo", "pipefail", "-c", theirs)


@pytest.fixture
def jdk(topics: Topics) -> Iterator[str]:
    """A container with a JDK, and the jars of the broker's own distribution."""
    name = topics.services.container("jdk")
    label = ["--label", f"{RUN_LABEL}={topics.services.run}"]
    docker("run", "-d", "--init", "--name", name, *label, "--network", "host", "--entrypoint", "sleep",
           os.environ.get("EVALX_IMAGE_PREFIX", "evalx-") + "sandbox-java25", "600")  # fmt: skip
    try:
        yield name
    finally:
        docker("rm", "-fv", name)


def copy_jars(name: str, folder: Path) -> None:
    docker("cp", f"{name}-libs:/opt/kafka/libs", str(folder / "libs"))
    for jar in (folder / "libs").iterdir():
        if not jar.name.startswith(JARS):
            jar.unlink()


async def test_java(topics: Topics, jdk: str, tmp_path: Path):
    docker("create", "--name", f"{jdk}-libs", "--label", f"{RUN_LABEL}={topics.services.run}", "evalx-kafka")
    try:
        copy_jars(jdk, tmp_path)
    finally:
        docker("rm", "-fv", f"{jdk}-libs")
    (tmp_path / "Judge.java").write_text(block("Java", "java"))
    docker("cp", f"{tmp_path}/.", f"{jdk}:/tmp")
    await run("docker", "exec", "-w", "/tmp", jdk, "javac", "-cp", "libs/*", "Judge.java")
    told = ["-e", f"EVALX_KAFKA_BOOTSTRAP={topics.services.kafka}", "-e", f"EVALX_TOPIC_PREFIX={topics.prefix}"]
    output = await run("docker", "exec", "-w", "/tmp", *told, jdk, "java", "-cp", "libs/*:.", "Judge")
    lines = [line.split(" ", 1) for line in output.splitlines() if line.startswith("java-")]
    assert sorted(words for _, words in lines) == [
        "dead letter unknown_language",
        "judged AC high",
        "judged AC low",
        "judged AC normal",
        "rejected null low",
    ]
    assert len({name for name, _ in lines}) == 4


async def test_kcat(topics: Topics):
    await shell(topics, block("kcat", "sh"))
    read = block("kcat", "sh", 1).splitlines()

    async def result() -> str:
        lines = (await shell(topics, read[0])).splitlines()
        return next((line for line in lines if line.startswith("s-1 ")), "")

    assert '"verdict":"AC"' in await eventually(result, "kcat sees the result")
    await shell(topics, read[1])
