"""The docker command, for the contenders that are no part of evalx."""

from __future__ import annotations

import asyncio
import subprocess


def docker(*arguments: str) -> str:
    """Run `docker ARGUMENTS` and return what it printed.

    Raises:
        RuntimeError: it failed; the message is what it said.
    """
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"docker {' '.join(arguments[:2])}: {done.stderr.strip()}")
    return done.stdout.strip()


async def remove(container: str) -> None:
    """Remove a container; one that is gone already is fine."""
    process = await asyncio.create_subprocess_exec(
        "docker", "rm", "-f", container, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    await process.wait()
