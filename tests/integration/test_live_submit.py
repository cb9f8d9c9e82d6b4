"""`evalx submit` on a terminal: tests are shown as they turn, whatever Redis does."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
from pathlib import Path

import pytest
import redis.asyncio
from integration_stack import EVALX, Topics, eventually, free_port, submission

from evalx.cache.listening import Listener
from evalx.cache.progress import Progress, channel_root, encode_progress

#: Times that a look is had; what is told of tests is best effort, and a busy machine may be late.
LOOKS = 4
#: The last test gives the first one's verdict time to be told.
CODE = "import time\nn = int(input())\ntime.sleep(n)\nprint(n)\n"
ANSWERS = {"1-quick": ("0\n", "1\n"), "2-slow": ("2\n", "2\n")}


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(CODE)
    (tmp_path / "tests").mkdir()
    for name, (given, answer) in ANSWERS.items():
        (tmp_path / "tests" / f"{name}.in").write_text(given)
        (tmp_path / "tests" / f"{name}.ans").write_text(answer)
    return tmp_path


async def submit(topics: Topics, problem: Path, *options: str, **settings: object) -> tuple[int | None, str, str]:
    """The exit code, stdout, and what was drawn on the terminal that stderr is."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, **topics.environment(**settings), "TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
    process = await asyncio.create_subprocess_exec(
        *(str(EVALX), "submit", "main.py", "--tests", "tests", *options),
        cwd=problem,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=theirs,
    )
    os.close(theirs)
    drawn = asyncio.create_task(asyncio.to_thread(read_all, ours))
    output, _ = await process.communicate()
    # A test that a terminal draws may be coloured.
    return process.returncode, output.decode(), re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", await drawn)


def read_all(terminal: int) -> str:
    parts = []
    # The end of a terminal is an error, when nobody has it open any more.
    try:
        while part := os.read(terminal, 4096):
            parts.append(part)
    except OSError:
        pass
    finally:
        os.close(terminal)
    return b"".join(parts).decode()


async def test_tests_turn_before_the_result(topics: Topics, problem: Path):
    for look in range(LOOKS):
        # Else it would be answered from the cache, which has nothing to tell.
        (problem / "main.py").write_text(f"{CODE}# {topics.new_id()}\n")
        code, output, drawn = await submit(topics, problem)
        assert code == 1
        assert output.splitlines()[1].split()[:2] == ["1-quick", "WA"]
        if re.search(r"1-quick +WA.*\n *2-slow +\.", drawn.replace("\r", "")):
            return
        print(f"look {look}: {drawn!r}")
    pytest.fail("no verdict was shown before the result")


async def test_without_redis_the_result_comes_all_the_same(topics: Topics, problem: Path):
    away = f"redis://127.0.0.1:{free_port()}/0"
    code, output, drawn = await submit(topics, problem, redis_url=away)
    assert code == 1
    assert output.splitlines()[-1].startswith("WA, 1 of 2 tests passed")
    assert "2-slow" in drawn


async def test_json_shows_no_tests(topics: Topics, problem: Path):
    code, output, drawn = await submit(topics, problem, "--json")
    assert code == 1
    assert output.startswith('{"id":"submit-')
    assert "2-slow" not in drawn


async def test_what_is_told_is_heard_and_nothing_of_others(topics: Topics):
    heard: list[Progress] = []
    submission_id, root = topics.new_id(), channel_root(topics.prefix)
    url = topics.environment()["EVALX_REDIS_URL"]
    client = redis.asyncio.Redis.from_url(url)
    async with Listener(url, topics.prefix, submission_id, heard.append) as listener:
        assert await listener.ready()
        await client.publish(f"{root}another", encode_progress(Progress(started=True)))
        await client.publish(root + submission_id, b"not progress")
        await client.publish(root + submission_id, encode_progress(Progress(finished=True)))
        await eventually(lambda: heard, "the message is heard")
    await client.aclose()
    assert heard == [Progress(finished=True)]


async def test_a_worker_tells_of_each_test(topics: Topics):
    heard: list[Progress] = []
    document = submission("python", tests=[{"stdin": f"{n} 1\n"} for n in range(3)], cache="bypass", id=topics.new_id())
    url = topics.environment()["EVALX_REDIS_URL"]
    async with Listener(url, topics.prefix, document["id"], heard.append) as listener:
        assert await listener.ready()
        await topics.submit(document, headers=[("evalx-progress", b"1")])
        # In whatever order they end.
        await eventually(lambda: sum(len(one.tests) for one in heard) >= 3, "three tests are told of")
    assert {test.id for one in heard for test in one.tests} == {"1", "2", "3"}
