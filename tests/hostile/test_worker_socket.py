"""The socket between a sandbox and its worker: no program finds it, nor what it was opened with."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from arena import Arena, eventually

from evalx.sandbox.container import Container
from evalx.sandbox.protocol import Request
from evalx.sandbox.runtime import SandboxRuntime
from evalx.verdicts import Verdict

OK = Verdict.OK

#: The command line of PID 1 can be read by everybody: there must be nothing in it but numbers.
COMMAND_LINE = r"""
#include <stdio.h>
int main(void) {
    char text[4096];
    FILE *file = fopen("/proc/1/cmdline", "r");
    size_t size = fread(text, 1, sizeof text, file);
    for (size_t i = 0; i < size; i++)
        putchar(text[i] == '\0' ? ' ' : text[i]);
    return 0;
}
"""


@pytest.mark.parametrize("stdins", [("",), ("", "")], ids=["exec", "forked"])
async def test_looking_for_the_way_to_the_worker(arena: Arena, stdins: tuple[str, ...]) -> None:
    batch = await arena.attack("c/find_worker.c", stdins=stdins, expect=OK, container="reset")
    assert batch.text == "end\n" * len(stdins)
    assert {used.channel_kind for used in batch.containers} == {"socket"}


async def test_the_command_line_of_the_runner(arena: Arena) -> None:
    batch = await arena.attack("c:" + COMMAND_LINE, expect=OK)
    words = batch.text.split()
    assert words[1::2] == ["--uid-base", "--uid-count", "--dead-man"]
    assert all(word.isdigit() for word in words[2::2])


async def test_nothing_is_left_to_be_found(arena: Arena) -> None:
    """Not on the host either: only a container that is being started has a folder."""
    batch = await arena.attack("c:int main(void) { return 0; }", expect=OK)
    assert batch.containers
    await eventually(lambda: folders(arena.runtime) == [], "a folder is left")


def folders(runtime: SandboxRuntime) -> list[Path]:
    assert runtime._sockets is not None
    return list(runtime._sockets._folder.iterdir())


async def test_a_container_that_does_not_know_the_token(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes through somebody else's door is handed nothing, and stays behind Docker's stream."""
    # Its own, so that a container which the pool starts meanwhile is left alone.
    spec = msgspec.structs.replace(next(iter(arena.runtime._specs.values())))
    told = Container._write

    async def wrong(self: Container, data: bytes) -> None:
        is_move = self.spec is spec and data[4] == Request.MOVE
        await told(self, data[:-1] + bytes([data[-1] ^ 1]) if is_move else data)

    monkeypatch.setattr(Container, "_write", wrong)
    assert arena.runtime._docker is not None
    container = await Container.start(arena.runtime._docker, spec)
    try:
        assert container.channel_kind == "attach"
    finally:
        await container.close()
    await eventually(lambda: folders(arena.runtime) == [], "a folder is left")
