"""The rows of the contract's tables, seen by a client that knows nothing but Kafka and JSON."""

from __future__ import annotations

import base64
import json
import re
import string
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from integration_stack import LANES, Document, Topics, Worker, admin_client, docker, program, submission

KIB = 1 << 10
MIB = 1 << 20
LONG = {"cpu_time_ms": 10_000, "wall_time_ms": 60_000}

#: Sources of an answer that nothing was run for. A result is published first and stored then: who sends the same in
#: between joins what is still being stored.
KNOWN = ("result_cache", "joined")


async def judge(topics: Topics, case: str, *stdins: str, language: str = "c", **fields: Any) -> Document:
    """Judge a program of tests/programs on inputs without expected outputs."""
    document = submission(language, case, tests=[{"stdin": one} for one in stdins] or [{}], **fields)
    (result,) = await topics.judge(document)
    return result


async def echo(topics: Topics, printed: str, expected: str, checker: Document | None = None) -> str:
    """The verdict of a program that prints this, when that is expected."""
    tests = [{"stdin": printed, "expected_output": expected}]
    given = {"checker": checker} if checker else {}
    (result,) = await topics.judge(submission("python", "echo", tests=tests, **given))
    return str(result["verdict"])


# --- topics and lanes


async def test_topics_are_created_as_documented(open_topics: Callable[..., Topics]):
    topics = open_topics("created")
    topics.create()  # once more: what exists stays
    names = [topics.submissions, f"{topics.prefix}.results", f"{topics.submissions}.DLT"]
    async with admin_client(topics.services) as admin:
        described = {one["topic"]: one for one in await admin.describe_topics(names)}
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        configs = await admin.describe_configs(resources)
    assert {name: len(one["partitions"]) for name, one in described.items()} == dict.fromkeys(names, 12)
    limits = {
        name: int({entry[0]: entry[1] for entry in entries}["max.message.bytes"])
        for response in configs
        for _, _, _, name, entries in response.resources
    }
    assert limits == dict.fromkeys(names, 16 * MIB)


async def test_the_partition_decides_the_lane(topics: Topics):
    ids = [(await topics.submit(submission(), partition=number))[0] for number in range(12)]
    results = await topics.wait_for(ids)
    lanes = [results[one]["lane"] for one in ids]
    assert lanes == [lane for lane, partitions in LANES.items() for _ in partitions]


async def test_what_an_operator_sets(open_topics: Callable[..., Topics]):
    lanes = "high=0-3,12-13,normal=4-7,low=8-11"
    async with open_topics("operator", partitions=14, lanes=lanes) as topics:
        worker = await topics.worker(
            lanes=lanes, worker_name="", max_code_bytes=1000, max_tests=2, max_cpu_time_ms=2500
        ).ready()
        ids = await topics.submit(submission(), partition=13)
        ids += await topics.submit(submission(), partition=4)
        ids += await topics.submit(submission(code="x" * 1001), submission(tests=[{}] * 3), partition=0)
        ids += await topics.submit(submission(limits={"cpu_time_ms": 2501}), partition=0)
        results = await topics.wait_for(ids)
        assert (await worker.stop())[0] == 0
    added, normal, *rejected = (results[one] for one in ids)
    assert (added["lane"], added["verdict"], normal["lane"]) == ("high", "AC", "normal")
    assert added["worker"] == worker.name, "by default HOST:PID"
    assert [one["error"]["code"] for one in rejected] == ["code_too_large", "too_many_tests", "limit_exceeded"]


# --- the fields of a submission


async def test_an_id_may_have_128_characters_of_five_kinds(topics: Topics):
    characters = string.ascii_letters + string.digits + "._:-"
    long_id = (topics.new_id() + characters * 2)[:128]
    (result,) = await topics.judge(submission(id=long_id))
    assert (result["id"], result["verdict"]) == (long_id, "AC")


@pytest.mark.parametrize(
    ("language", "version"),
    [("c", "17"), ("cpp", "17"), ("python", "3.13"), ("java", "21"), ("javascript", "20")],
)
async def test_the_default_version(topics: Topics, language: str, version: str):
    (result,) = await topics.judge(submission(language, limits=LONG))
    assert (result["version"], result["verdict"]) == (version, "AC")


async def test_the_longest_code(topics: Topics):
    code = program("python", "sum")
    code += "#" + "é" * ((256 * KIB - len(code) - 1) // 2)
    code += "x" * (256 * KIB - len(code.encode()))
    assert len(code.encode()) == 256 * KIB
    (result,) = await topics.judge(submission("python", code=code))
    assert result["verdict"] == "AC"


async def test_a_test_has_its_position_as_id_and_nothing_to_read(topics: Topics):
    tests = [{}, {"id": "named"}, {"stdin": "1 2\n"}]
    (result,) = await topics.judge(submission(tests=tests))
    assert [test["id"] for test in result["tests"]] == ["1", "named", "3"]
    assert [test["stdout"] for test in result["tests"]] == ["", "", "3\n"]


async def test_a_thousand_tests(topics: Topics):
    tests = [{"stdin": f"{n} 1\n", "expected_output": f"{n + 1}\n"} for n in range(1000)]
    (result,) = await topics.judge(submission(tests=tests, limits=LONG))
    assert result["verdict"] == "AC"
    assert [test["id"] for test in result["tests"]] == [str(n) for n in range(1, 1001)]
    assert {test["verdict"] for test in result["tests"]} == {"AC"}


async def test_two_seconds_of_cpu_by_default(topics: Topics):
    result = await judge(topics, "endless_loop", limits={"wall_time_ms": 60_000})
    (test,) = result["tests"]
    assert test["verdict"] == "TLE"
    assert 2000 <= test["cpu_time_ms"] < 4000


async def test_wall_time_is_three_times_cpu_time_and_a_second_by_default(topics: Topics):
    result = await judge(topics, "sleeper", limits={"cpu_time_ms": 100})
    (test,) = result["tests"]
    assert test["verdict"] == "TLE"
    assert 1300 <= test["wall_time_ms"] < 7000


async def test_256_mib_of_memory_by_default(topics: Topics):
    result = await judge(topics, "allocate", "200", "300", limits=LONG)
    assert [test["verdict"] for test in result["tests"]] == ["OK", "MLE"]
    assert result["tests"][0]["peak_memory_bytes"] >= 200 * MIB


async def test_64_kib_of_each_output_by_default(topics: Topics):
    full, over = 64 * KIB, 64 * KIB + 1
    result = await judge(topics, "emit", f"{full} {full} 120", f"{over} 0 120", f"0 {over} 120")
    fits, out, err = result["tests"]
    assert [fits["verdict"], out["verdict"], err["verdict"]] == ["OK", "OLE", "OLE"]
    assert (fits["stdout"], fits["stderr"]) == ("x" * full, "x" * full)
    assert (out["stdout"], out["stdout_truncated"], out["stderr_truncated"]) == ("x" * full, True, False)
    assert (err["stderr"], err["stdout_truncated"], err["stderr_truncated"]) == ("x" * full, False, True)


async def test_16_processes_by_default(topics: Topics):
    default = await judge(topics, "fork_count", language="python")
    fewer = await judge(topics, "fork_count", language="python", limits={"processes": 4})
    assert [one["tests"][0]["stdout"] for one in (default, fewer)] == ["16\n", "4\n"]


async def test_every_limit_at_its_maximum(topics: Topics):
    limits = {
        "cpu_time_ms": 30_000,
        "wall_time_ms": 120_000,
        "memory_bytes": 1024 * MIB,
        "output_bytes": 8 * MIB,
        "processes": 64,
    }
    result = await judge(topics, "emit", f"{8 * MIB} 0 120", limits=limits)
    (test,) = result["tests"]
    assert (test["verdict"], len(test["stdout"])) == ("OK", 8 * MIB)


@pytest.mark.parametrize(
    ("checker", "printed", "expected", "verdict"),
    [
        (None, "1  \n2\n\n\n", "1\n2", "AC"),
        (None, "1  2\n", "1 2\n", "WA"),
        ({"kind": "exact"}, "1\n", "1\n", "AC"),
        ({"kind": "exact"}, "1\n", "1", "WA"),
        ({"kind": "lines"}, "1 \t\r\n2\n", "1\n2\n\n", "AC"),
        ({"kind": "lines"}, "\n1\n", "1\n", "WA"),
        ({"kind": "tokens"}, " 1\n\n  2\t3", "1 2 3\n", "AC"),
        ({"kind": "tokens"}, "1 2", "12", "WA"),
        ({"kind": "floats"}, "0.3333333 ok\n", "0.333333333 ok\n", "AC"),
        ({"kind": "floats"}, "0.3333\n", "0.333333333\n", "WA"),
        ({"kind": "floats", "abs_tol": 0.1, "rel_tol": 0}, "1000.09\n", "1000\n", "AC"),
        ({"kind": "floats", "abs_tol": 0.1, "rel_tol": 0}, "1000.2\n", "1000\n", "WA"),
        ({"kind": "floats", "abs_tol": 0, "rel_tol": 0.01}, "1009\n", "1000\n", "AC"),
        ({"kind": "floats", "abs_tol": 0, "rel_tol": 0.01}, "1011\n", "1000\n", "WA"),
    ],
)
async def test_checkers(topics: Topics, checker: Document | None, printed: str, expected: str, verdict: str):
    assert await echo(topics, printed, expected, checker) == verdict


@pytest.mark.parametrize(
    ("mode", "right", "wrong"),
    [(None, "3\n", "3\n"), ("always", "3\n", "3\n"), ("on_failure", "", "3\n"), ("never", "", "")],
)
async def test_when_outputs_are_returned(topics: Topics, mode: str | None, right: str, wrong: str):
    tests = [{"stdin": "1 2\n", "expected_output": "3\n"}, {"stdin": "1 2\n", "expected_output": "4\n"}]
    (result,) = await topics.judge(submission(tests=tests, **({"return_output": mode} if mode else {})))
    assert [test["verdict"] for test in result["tests"]] == ["AC", "WA"]
    assert [test["stdout"] for test in result["tests"]] == [right, wrong]


async def test_metadata_is_echoed(topics: Topics):
    full = {"k": "é" * 2047 + "x"}
    assert len(b"k") + len(full["k"].encode()) == 4 * KIB
    results = await topics.judge(submission(metadata={"problem": "a", "": ""}), submission(metadata=full), submission())
    assert [result["metadata"] for result in results] == [{"problem": "a", "": ""}, full, {}]


# --- the cache


async def number(topics: Topics, mode: str | None, stdin: str = "") -> tuple[str, Document]:
    """What a program that prints something new each time printed, and the result."""
    result = await judge(topics, "random_text", stdin, language="python", **({"cache": mode} if mode else {}))
    return result["tests"][0]["stdout"], result


async def test_cache_modes(topics: Topics):
    first, executed = await number(topics, None)
    again, cached = await number(topics, "use")
    assert again == first
    assert (executed["source"], executed["tests"][0]["cached"]) == ("executed", False)
    assert cached["source"] in KNOWN

    refreshed, result = await number(topics, "refresh")
    assert refreshed != first
    assert (result["source"], result["tests"][0]["cached"]) == ("executed", False)
    assert (await number(topics, "use"))[0] == refreshed

    bypassed, result = await number(topics, "bypass")
    assert bypassed != refreshed
    assert result["source"] == "executed"
    assert (await number(topics, "use"))[0] == refreshed


async def test_a_compiled_program_is_kept(topics: Topics):
    unique = program("c", "sum") + f"// {topics.new_id()}\n"

    async def compiled(stdin: str, **fields: Any) -> tuple[str, bool]:
        (result,) = await topics.judge(submission(code=unique, tests=[{"stdin": stdin}], **fields))
        return "known" if result["source"] in KNOWN else result["source"], result["compile"]["cached"]

    assert await compiled("1 1\n") == ("executed", False)
    assert await compiled("2 2\n") == ("executed", True)
    assert await compiled("2 2\n") == ("known", True)
    assert await compiled("2 2\n", cache="refresh") == ("executed", False)
    assert await compiled("2 2\n", cache="bypass") == ("executed", False)


async def test_the_cache_knows_nothing_of_ids(topics: Topics):
    code = program("c", "sum") + f"// {topics.new_id()}\n"
    a, b = {"stdin": "1 2\n", "expected_output": "3\n"}, {"stdin": "1 2\n", "expected_output": "4\n"}
    await topics.judge(submission(code=code, tests=[a, b], metadata={"a": "b"}))
    (result,) = await topics.judge(submission(code=code, tests=[{"id": "y", **b}, {"id": "x", **a}]))
    assert result["source"] in KNOWN
    assert [(test["id"], test["verdict"]) for test in result["tests"]] == [("y", "WA"), ("x", "AC")]
    assert result["metadata"] == {}


async def test_a_compile_error_is_kept(topics: Topics):
    document = submission(code=f"// {topics.new_id()}\nint main(void) {{ return nothing; }}\n")
    first = (await topics.judge(document))[0]
    second = (await topics.judge(document))[0]
    assert (first["verdict"], second["verdict"]) == ("CE", "CE")
    assert first["source"] == "executed"
    assert second["source"] in KNOWN
    assert second["compile"]["output"] == first["compile"]["output"]


async def test_identical_submissions_are_judged_once(topics: Topics):
    results = await topics.judge(*[submission("python", "nap", tests=[{"stdin": "1\n"}])] * 3)
    assert sorted(result["source"] for result in results) == ["executed", "joined", "joined"]
    assert len({result["tests"][0]["stdout"] for result in results}) == 1
    assert not any(result["tests"][0]["cached"] for result in results)


# --- the result


async def test_a_result_says_who_what_and_when(topics: Topics, worker: Worker):
    (submission_id,) = await topics.submit(submission(cache="bypass"), lane="high")
    published = await topics.published(submission_id)
    result = published.document
    assert published.key == submission_id.encode()
    assert (result["id"], result["status"], result["error"]) == (submission_id, "judged", None)
    assert (result["lane"], result["attempt"], result["worker"]) == ("high", 1, worker.name)
    image = docker("inspect", "-f", "{{.Id}}", "evalx-sandbox-c-cpp")
    assert re.fullmatch("sha256:[0-9a-f]{64}", image)
    assert result["toolchain"] == image
    assert result["queued_ms"] >= 0
    assert result["judged_ms"] >= result["compile"]["wall_time_ms"] > 0
    assert result["compile"]["exit_code"] == 0
    assert set(result["compile"]) == {"exit_code", "output", "cpu_time_ms", "wall_time_ms", "cached"}


async def test_waiting_is_measured_from_the_producers_timestamp(topics: Topics):
    submission_id = topics.new_id()
    value = json.dumps(submission(id=submission_id)).encode()
    await topics.send(value, partition=4, timestamp_ms=int(time.time() * 1000) - 5000)
    assert 5000 <= (await topics.result(submission_id))["queued_ms"] < 100_000


async def test_headers(topics: Topics, worker: Worker):
    (submission_id,) = await topics.submit(submission())
    headers = (await topics.published(submission_id)).headers
    text = {name: value.decode() for name, value in headers.items()}
    partition, _, offset = text.pop("evalx-submission").partition(":")
    assert int(partition) in LANES["normal"]
    assert await topics.end(int(partition)) == int(offset) + 1
    moment = datetime.fromisoformat(text.pop("ce_time"))
    assert abs(datetime.now(UTC) - moment) < timedelta(minutes=5)
    assert worker.name in text.pop("ce_source")
    assert text == {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_id": submission_id,
        "ce_type": "evalx.result.v1",
    }


async def test_a_trace_is_continued(topics: Topics):
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    parent = [("traceparent", f"00-{trace}-00f067aa0ba902b7-01".encode())]
    (submission_id,) = await topics.submit(submission(), headers=parent)
    continued = (await topics.published(submission_id)).headers["traceparent"].decode()
    assert re.fullmatch(f"00-{trace}-[0-9a-f]{{16}}-01", continued)


async def test_a_trace_that_is_none_costs_no_result(topics: Topics):
    """Neither is it sent on, where it could make a result too large for the topic."""
    tests = [{"stdin": f"{64 * KIB} 0 120"}] * 300
    for value in (b"\xff" * 10_000, b"x" * 15 * MIB):
        (submission_id,) = await topics.submit(submission("c", "emit", tests=tests), headers=[("traceparent", value)])
        published = await topics.published(submission_id)
        assert published.document["verdict"] == "OK"
        assert "traceparent" not in published.headers


async def test_a_repeat_has_the_same_verdicts_and_a_higher_attempt(topics: Topics):
    tests = [{"stdin": "1 2\n", "expected_output": "3\n"}, {"stdin": "1 2\n", "expected_output": "4\n"}]
    document = submission(id=topics.new_id(), tests=tests)
    await topics.submit(document)
    first = await topics.result(document["id"])
    await topics.submit(document)
    second = await topics.result(document["id"], count=2)
    assert (first["attempt"], second["attempt"]) == (1, 2)
    verdicts = [[test["verdict"] for test in result["tests"]] for result in (first, second)]
    assert verdicts == [["AC", "WA"]] * 2


async def test_bytes_that_are_not_text(topics: Topics):
    result = await judge(topics, "raw_bytes", language="python")
    (test,) = result["tests"]
    assert (test["verdict"], test["encoding"]) == ("OK", "base64")
    assert base64.b64decode(test["stdout"], validate=True) == b"\xff\x00not text\n"
    assert base64.b64decode(test["stderr"], validate=True) == "plain text: é\n".encode()


async def test_an_output_cut_within_a_character_is_text(topics: Topics):
    tests = [{"stdin": "é" * 1000}]
    (result,) = await topics.judge(submission("python", "echo", tests=tests, limits={"output_bytes": 101}))
    (test,) = result["tests"]
    assert (test["verdict"], test["stdout_truncated"], test["encoding"]) == ("OLE", True, "utf-8")
    assert test["stdout"] == "é" * 50


@pytest.mark.parametrize(("count", "code"), [(400, ord("x")), (60, 1), (250, 0xFF)])
async def test_a_result_over_the_topics_limit_is_cut(topics: Topics, count: int, code: int):
    """64 KiB a test: plain, with six bytes for each character in JSON, and as base64."""
    stdins = [f"{64 * KIB} 0 {code}"] * count
    document = submission("c", "emit", tests=[{"stdin": one} for one in stdins], cache="bypass", limits=LONG)
    (submission_id,) = await topics.submit(document)
    published = await topics.published(submission_id)
    assert published.value is not None
    assert 15 * MIB < len(published.value) <= 16 * MIB
    result = published.document
    assert (result["verdict"], len(result["tests"])) == ("OK", count)
    for test in result["tests"]:
        assert (test["verdict"], test["stdout_truncated"], test["stderr_truncated"]) == ("OK", True, False)
        printed = test["stdout"].encode("latin-1")
        if test["encoding"] == "base64":
            printed = base64.b64decode(printed, validate=True)
        assert printed == bytes([code]) * len(printed)
