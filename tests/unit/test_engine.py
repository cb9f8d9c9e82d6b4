"""One submission: caches, one compile, verdicts, retries. The sandbox is a Python function."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from evalx import engine as engine_module
from evalx.cache import outcomes
from evalx.cache.keys import BatchKeys, Keys
from evalx.cache.rules import Policy
from evalx.engine import Engine, Judgement
from evalx.errors import DockerUnavailableError, JudgeFaultError, SandboxFaultError
from evalx.languages import Registry
from evalx.messages import Submission, TestResult, decode_submission
from evalx.sandbox.protocol import ResultFlag
from evalx.settings import Settings
from evalx.testing import FakeSandbox, MemoryCache, Ran
from evalx.verdicts import Outcome, Verdict

REGISTRY = Registry.load()
RULES = REGISTRY.rules(Settings())
ECHO_TESTS = [{"stdin": text, "expected_output": text} for text in ("1\n", "2\n", "3\n")]


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "RETRY_PAUSES_S", (0.0, 0.0, 0.0))


def make(tests: list[dict[str, Any]] | None = None, **fields: Any) -> Submission:
    document = {"id": "s-1", "language": "cpp", "code": "int main;", "tests": tests or ECHO_TESTS, **fields}
    return decode_submission(msgspec.json.encode(document), RULES)


async def judged(engine: Engine, submission: Submission) -> Judgement:
    """Judge and publish."""
    judgement = await engine.judge(submission)
    await engine.remember(submission, judgement)
    return judgement


def verdicts(judgement: Judgement) -> list[str]:
    return [test.verdict.value for test in judgement.tests]


async def test_compiles_once_and_runs_all_tests_in_one_job():
    sandbox = FakeSandbox()
    judgement = await Engine(REGISTRY, sandbox, MemoryCache()).judge(make())
    assert (sandbox.compiles, sandbox.runs) == (1, 1)
    assert judgement.verdict is Verdict.AC
    assert verdicts(judgement) == ["AC", "AC", "AC"]
    assert judgement.source == "executed"
    assert judgement.toolchain == "sha256:sandbox-c-cpp"
    assert sandbox.jobs[1].files[0].data == b"compiled int main;"


async def test_expected_outputs_never_enter_the_sandbox():
    sandbox = FakeSandbox(lambda stdin: b"42")
    await Engine(REGISTRY, sandbox, MemoryCache()).judge(make([{"stdin": "q", "expected_output": "TOP SECRET"}]))
    assert b"TOP SECRET" not in b"".join(msgspec.msgpack.encode(job) for job in sandbox.jobs)


@pytest.mark.parametrize(
    ("ran", "expected", "verdict"),
    [
        (Ran(stdout=b"42\n"), "42", "AC"),
        (Ran(stdout=b"43\n"), "42", "WA"),
        (Ran(stdout=b"42\n"), None, "OK"),
        (Ran(stdout=b"42\n", exit_code=1), "42", "RTE"),
        (Ran(outcome=Outcome.SIGNALED, exit_code=None, signal=11), "42", "RTE"),
        (Ran(outcome=Outcome.CPU_LIMIT, exit_code=None, signal=9), "42", "TLE"),
        (Ran(outcome=Outcome.WALL_LIMIT, exit_code=None, signal=9), "42", "TLE"),
        (Ran(outcome=Outcome.MEMORY_LIMIT, exit_code=None, signal=9), "42", "MLE"),
        (Ran(outcome=Outcome.OUTPUT_LIMIT, exit_code=None, signal=9, flags=ResultFlag.STDOUT_CUT), None, "OLE"),
    ],
)
async def test_verdict_of_a_run(ran: Ran, expected: str | None, verdict: str):
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: ran), MemoryCache()).judge(
        make([{"expected_output": expected}])
    )
    assert verdicts(judgement) == [verdict]
    assert judgement.verdict == verdict


async def test_a_failure_that_says_out_of_memory_is_a_memory_limit():
    died = Ran(exit_code=1, stderr=b"Exception in thread main java.lang.OutOfMemoryError: Java heap space")
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: died), MemoryCache()).judge(make(language="java"))
    assert judgement.verdict is Verdict.MLE


async def test_those_words_of_a_program_that_succeeds_mean_nothing():
    fine = Ran(stdout=b"1\n", stderr=b"java.lang.OutOfMemoryError")
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: fine), MemoryCache()).judge(
        make([{"expected_output": "1"}], language="java")
    )
    assert judgement.verdict is Verdict.AC


async def test_output_that_is_not_utf8_is_base64_and_a_cut_character_is_dropped():
    answers = iter([Ran(stdout=b"\xff\n"), Ran(stdout="€".encode()[:2], flags=ResultFlag.STDOUT_CUT)])
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: next(answers)), MemoryCache()).judge(
        make([{"stdin": "1"}, {"stdin": "2"}])
    )
    assert [(test.encoding, test.stdout) for test in judgement.tests] == [("base64", "/wo="), ("utf-8", "")]
    assert [test.stdout_truncated for test in judgement.tests] == [False, True]


async def test_stop_on_failure_skips_what_follows_in_order_even_if_it_ran():
    sandbox = FakeSandbox(lambda stdin: b"2\n")
    submission = make(stop_on_failure=True)
    judgement = await judged(Engine(REGISTRY, sandbox, MemoryCache()), submission)
    assert verdicts(judgement) == ["WA", "SK", "SK"]
    assert [test.cpu_time_ms for test in judgement.tests[1:]] == [0, 0]
    assert judgement.verdict is Verdict.WA


async def test_without_it_every_test_runs():
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: b"2\n"), MemoryCache()).judge(make())
    assert verdicts(judgement) == ["WA", "AC", "WA"]


@pytest.mark.parametrize("mode", ["always", "on_failure", "never"])
async def test_outputs_are_returned_as_asked(mode: str):
    judgement = await Engine(REGISTRY, FakeSandbox(lambda stdin: b"2\n"), MemoryCache()).judge(make())
    shown = [bool(test.stdout) for test in judgement.reported(mode)]
    assert shown == {"always": [True] * 3, "on_failure": [True, False, True], "never": [False] * 3}[mode]


async def test_on_test_sees_every_test_as_it_ends():
    seen: list[TestResult] = []
    await Engine(REGISTRY, FakeSandbox(), MemoryCache()).judge(make(), on_test=seen.append)
    assert [test.id for test in seen] == ["1", "2", "3"]


class TestCache:
    async def test_the_answer_has_the_ids_and_the_order_of_the_one_who_asks(self):
        sandbox = FakeSandbox(lambda stdin: b"2\n")
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make())
        tests = [{**test, "id": name} for test, name in zip(reversed(ECHO_TESTS), "cba", strict=True)]
        again = await judged(engine, make(tests, id="s-2"))
        assert again.source == "result_cache"
        assert [(test.id, test.verdict) for test in again.tests] == [("c", "WA"), ("b", "AC"), ("a", "WA")]
        assert all(test.cached for test in again.tests)
        assert again.compile is not None
        assert again.compile.cached
        assert sandbox.runs == 1

    async def test_nothing_is_stored_before_it_is_published(self):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await engine.judge(make())
        assert (await engine.judge(make())).source == "executed"
        assert (sandbox.compiles, sandbox.runs) == (1, 2)

    @pytest.mark.parametrize(
        "change",
        [
            {"code": "int main ;"},
            {"version": "20"},
            {"checker": {"kind": "exact"}},
            {"limits": {"cpu_time_ms": 1999}},
            {"tests": ECHO_TESTS[:2]},
            {"tests": [{**ECHO_TESTS[0], "expected_output": None}, *ECHO_TESTS[1:]]},
            {"stop_on_failure": True},
        ],
    )
    async def test_whatever_a_verdict_depends_on_is_another_entry(self, change: dict[str, Any]):
        engine = Engine(REGISTRY, FakeSandbox(), MemoryCache(), policy=Policy(tests=False))
        await judged(engine, make())
        assert (await judged(engine, make(**change))).source == "executed"

    async def test_equal_code_is_compiled_once_for_other_tests(self):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make())
        other = await judged(engine, make([{"stdin": "9"}]))
        assert (sandbox.compiles, sandbox.runs) == (1, 2)
        assert other.compile is not None
        assert other.compile.cached

    async def test_a_compile_error_is_remembered(self):
        sandbox = FakeSandbox(compiler=lambda source: Ran(exit_code=1, stdout=b"error: no"))
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        first, second = await judged(engine, make()), await judged(engine, make())
        assert (first.verdict, first.tests) == (Verdict.CE, ())
        assert first.compile is not None
        assert (first.compile.exit_code, first.compile.output) == (1, "error: no")
        assert (second.verdict, second.source) == (Verdict.CE, "result_cache")
        assert (sandbox.compiles, sandbox.runs) == (1, 0)

    async def test_a_compiler_that_was_stopped_is_not_remembered(self):
        stopped = Ran(outcome=Outcome.WALL_LIMIT, exit_code=None, signal=9)
        sandbox = FakeSandbox(compiler=lambda source: stopped)
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        first = await judged(engine, make())
        assert first.verdict is Verdict.CE
        assert first.compile is not None
        assert first.compile.exit_code is None
        assert "wall time limit" in first.compile.output
        await judged(engine, make())
        assert sandbox.compiles == 2

    async def test_bypass_neither_reads_nor_stores(self):
        sandbox, cache = FakeSandbox(), MemoryCache()
        engine = Engine(REGISTRY, sandbox, cache)
        await judged(engine, make(cache="bypass"))
        assert cache.values == {}
        await judged(engine, make())
        assert (await judged(engine, make(cache="bypass"))).source == "executed"
        assert (sandbox.compiles, sandbox.runs) == (3, 3)

    async def test_refresh_runs_and_then_stores(self):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make())
        assert (await judged(engine, make(cache="refresh"))).source == "executed"
        assert (sandbox.compiles, sandbox.runs) == (2, 2)
        assert (await judged(engine, make())).source == "result_cache"

    @pytest.mark.parametrize(
        "ran",
        [
            Ran(outcome=Outcome.CPU_LIMIT, exit_code=None, signal=9),
            Ran(outcome=Outcome.MEMORY_LIMIT, exit_code=None, signal=9),
            Ran(cpu_ms=1700),
            Ran(wall_ms=6500),
            Ran(peak_bytes=250 << 20),
        ],
    )
    async def test_what_may_come_out_differently_is_not_remembered(self, ran: Ran):
        engine = Engine(REGISTRY, FakeSandbox(lambda stdin: ran), MemoryCache())
        await judged(engine, make())
        assert (await judged(engine, make())).source == "executed"

    async def test_a_damaged_entry_is_no_entry(self):
        sandbox, cache = FakeSandbox(), MemoryCache()
        engine = Engine(REGISTRY, sandbox, cache)
        await judged(engine, make())
        cache.values = dict.fromkeys(cache.values, b"\x93garbage")
        again = await judged(engine, make())
        assert (again.source, again.verdict) == ("executed", Verdict.AC)
        assert (sandbox.compiles, sandbox.runs) == (2, 2)

    async def test_a_new_image_never_meets_an_old_entry(self, monkeypatch: pytest.MonkeyPatch):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make())
        monkeypatch.setattr(sandbox, "toolchain", lambda image: "sha256:new")
        again = await judged(engine, make())
        assert (again.source, again.toolchain) == ("executed", "sha256:new")
        assert (sandbox.compiles, sandbox.runs) == (2, 2)

    async def test_an_entry_that_lacks_a_test_is_no_entry(self):
        sandbox, cache = FakeSandbox(), MemoryCache()
        engine = Engine(REGISTRY, sandbox, cache, policy=Policy(tests=False))
        await judged(engine, make())
        (key,) = [key for key in cache.values if ":result:" in key]
        outcome = outcomes.decode_outcome(cache.values[key])
        assert outcome is not None
        outcome.tests.popitem()
        cache.values[key] = outcomes.encode(outcome)
        assert (await judged(engine, make())).source == "executed"

    async def test_without_the_result_cache_every_batch_is_judged(self):
        engine = Engine(REGISTRY, FakeSandbox(), MemoryCache(), policy=Policy(results=False, tests=False))
        await judged(engine, make())
        assert (await judged(engine, make())).source == "executed"

    async def test_without_single_flight_each_is_judged(self):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache(), policy=Policy(single_flight=False))
        await asyncio.gather(*(engine.judge(make()) for _ in range(3)))
        assert sandbox.runs == 3

    async def test_an_answer_that_is_kept_for_repeats_is_given_with_the_same_verdicts(self):
        engine = Engine(REGISTRY, FakeSandbox(lambda stdin: b"2\n"), MemoryCache())
        submission = make(stop_on_failure=True)
        first = await judged(engine, submission)
        again = engine.unpack(submission, engine.pack(submission, first))
        assert again is not None
        assert verdicts(again) == verdicts(first)
        assert again.source == "result_cache"
        assert engine.unpack(make(ECHO_TESTS[:1]), engine.pack(submission, first)) is not None
        assert engine.unpack(make([{"stdin": "new"}]), engine.pack(submission, first)) is None


def many(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [{"id": f"t{n}", "stdin": f"{n}\n", "expected_output": f"{n}\n"} for n in range(first, first + count)]


class TestSingleTests:
    async def test_a_batch_that_shares_15_of_20_tests_runs_5(self):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make(many(20)))
        again = await judged(engine, make(many(20, first=5)))
        assert [len(job.inputs) for job in sandbox.jobs if not job.collect] == [20, 5]
        assert again.source == "executed"
        assert [test.id for test in again.tests] == [f"t{n}" for n in range(5, 25)]
        assert [test.cached for test in again.tests] == [True] * 15 + [False] * 5
        assert verdicts(again) == ["AC"] * 20
        third = await judged(engine, make(many(20, first=5)))
        assert third.source == "result_cache"

    async def test_a_batch_of_known_tests_runs_nothing_and_is_kept(self):
        sandbox, cache = FakeSandbox(), MemoryCache()
        engine = Engine(REGISTRY, sandbox, cache)
        await judged(engine, make(many(20)))
        again = await judged(engine, make(many(7)))
        assert (again.source, sandbox.runs, sandbox.compiles) == ("result_cache", 1, 1)
        assert all(test.cached for test in again.tests)
        assert sum(":result:" in key for key in cache.values) == 2
        assert cache.counts == {"executed": 1, "result_cache": 1}

    async def test_a_test_is_kept_although_another_one_of_its_batch_is_not(self):
        def program(stdin: bytes) -> Ran:
            return Ran(outcome=Outcome.CPU_LIMIT, exit_code=None, signal=9) if stdin == b"3\n" else Ran(stdout=stdin)

        sandbox = FakeSandbox(program)
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        assert verdicts(await judged(engine, make(many(5)))) == ["AC", "AC", "AC", "TLE", "AC"]
        again = await judged(engine, make(many(5)))
        assert (again.source, verdicts(again)) == ("executed", ["AC", "AC", "AC", "TLE", "AC"])
        assert [len(job.inputs) for job in sandbox.jobs if not job.collect] == [5, 1]

    async def test_what_follows_a_known_failure_is_not_run(self):
        sandbox = FakeSandbox(lambda stdin: b"0\n")
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make(many(3)))
        stopping = make(many(5), stop_on_failure=True)
        again = await judged(engine, stopping)
        assert verdicts(again) == ["AC", "WA", "SK", "SK", "SK"]
        assert sandbox.runs == 1
        assert verdicts(await judged(engine, stopping)) == verdicts(again)

    async def test_a_skipped_test_is_not_known(self):
        sandbox = FakeSandbox(lambda stdin: b"0\n")
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make(many(5), stop_on_failure=True))
        assert verdicts(await judged(engine, make(many(5)))) == ["AC", "WA", "WA", "WA", "WA"]

    @pytest.mark.parametrize("change", [{"checker": {"kind": "exact"}}, {"limits": {"cpu_time_ms": 1999}}])
    async def test_under_other_conditions_it_is_another_test(self, change: dict[str, Any]):
        engine = Engine(REGISTRY, FakeSandbox(), MemoryCache())
        await judged(engine, make(many(5)))
        assert (await judged(engine, make(many(4), **change))).source == "executed"

    @pytest.mark.parametrize("mode", ["refresh", "bypass"])
    async def test_who_asks_for_a_run_gets_one(self, mode: str):
        sandbox = FakeSandbox()
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        await judged(engine, make(many(5)))
        again = await judged(engine, make(many(4), cache=mode))
        assert (again.source, sandbox.runs) == ("executed", 2)
        assert not any(test.cached for test in again.tests)

    async def test_a_damaged_test_is_run_again(self):
        sandbox, cache = FakeSandbox(), MemoryCache()
        engine = Engine(REGISTRY, sandbox, cache)
        await judged(engine, make(many(5)))
        for key in [key for key in cache.values if ":test:" in key][:2]:
            cache.values[key] = b"\xc1"
        await judged(engine, make(many(4)))
        assert [len(job.inputs) for job in sandbox.jobs if not job.collect] == [5, 2]


class TestKeys:
    def keys(self, secret: str | None = None, **change: Any) -> BatchKeys:
        submission = make(**change)
        return Keys(secret).of(submission, REGISTRY.resolve(submission.language, submission.version), "sha256:1")

    def test_order_and_ids_of_tests_do_not_matter(self):
        turned = [{**test, "id": f"x{n}"} for n, test in enumerate(reversed(ECHO_TESTS))]
        assert self.keys().result == self.keys(tests=turned).result
        assert self.keys(stop_on_failure=True).result != self.keys(tests=turned, stop_on_failure=True).result

    def test_flags_of_the_compiler_are_part_of_every_key(self):
        language = REGISTRY.resolve("cpp")
        assert language.compile is not None
        step = msgspec.structs.replace(language.compile, argv=(*language.compile.argv, "-O1"))
        other = msgspec.structs.replace(language, compile=step)
        one, two = (Keys().of(make(), which, "sha256:1") for which in (language, other))
        assert one.result != two.result
        assert one.artifact != two.artifact
        assert one.test(one.tests[0]) != two.test(two.tests[0])

    def test_with_a_secret_nothing_can_be_guessed(self):
        open_, secret, other = self.keys(), self.keys("s" * 16), self.keys("t" * 16)
        for name in ("result", "artifact", "tests"):
            assert len({getattr(keys, name) for keys in (open_, secret, other)}) == 3
        assert Keys("s" * 16).digest(b"c") != Keys().digest(b"c")
        assert self.keys("s" * 16).result == secret.result


class TestSingleFlight:
    async def test_identical_submissions_are_judged_once(self):
        gate = asyncio.Event()
        sandbox = FakeSandbox(gate=gate)
        engine = Engine(REGISTRY, sandbox, MemoryCache())
        tasks = [asyncio.create_task(engine.judge(make(id=f"s-{number}"))) for number in range(5)]
        await asyncio.sleep(0.01)
        gate.set()
        judgements = await asyncio.gather(*tasks)
        assert sorted(judgement.source for judgement in judgements) == ["executed"] + ["joined"] * 4
        assert {judgement.verdict for judgement in judgements} == {Verdict.AC}
        assert (sandbox.compiles, sandbox.runs) == (1, 1)

    async def test_whoever_stops_waiting_does_not_stop_the_others(self):
        gate = asyncio.Event()
        engine = Engine(REGISTRY, FakeSandbox(gate=gate), MemoryCache())
        leader, joiner, other = (asyncio.create_task(engine.judge(make())) for _ in range(3))
        await asyncio.sleep(0.01)
        joiner.cancel()
        gate.set()
        assert (await leader).source == "executed"
        assert (await other).source == "joined"
        assert joiner.cancelled() or isinstance(
            (await asyncio.gather(joiner, return_exceptions=True))[0], BaseException
        )

    async def test_a_cancelled_leader_leaves_the_work_to_those_who_joined(self):
        gate = asyncio.Event()
        engine = Engine(REGISTRY, FakeSandbox(gate=gate), MemoryCache())
        leader, joiner = (asyncio.create_task(engine.judge(make())) for _ in range(2))
        await asyncio.sleep(0.01)
        leader.cancel()
        gate.set()
        assert (await joiner).verdict is Verdict.AC
        assert leader.cancelled()

    async def test_a_leader_that_fails_leaves_the_work_to_those_who_joined(self):
        gate = asyncio.Event()
        faults = [SandboxFaultError(message=f"fault {number}") for number in range(4)]
        engine = Engine(REGISTRY, FakeSandbox(gate=gate, faults=faults), MemoryCache())
        leader, joiner = (asyncio.create_task(engine.judge(make())) for _ in range(2))
        await asyncio.sleep(0.01)
        gate.set()
        with pytest.raises(SandboxFaultError):
            await leader
        assert (await joiner).source == "executed"


class TestRetries:
    async def test_our_fault_is_tried_again(self):
        sandbox = FakeSandbox(faults=[SandboxFaultError(), DockerUnavailableError()])
        assert (await Engine(REGISTRY, sandbox, MemoryCache()).judge(make())).verdict is Verdict.AC

    async def test_but_not_for_ever(self):
        sandbox = FakeSandbox(faults=[SandboxFaultError(message=f"fault {number}") for number in range(9)])
        with pytest.raises(SandboxFaultError, match="fault 3"):
            await Engine(REGISTRY, sandbox, MemoryCache()).judge(make())

    async def test_a_program_that_could_not_be_started_is_our_fault(self):
        sandbox = FakeSandbox(lambda stdin: Ran(outcome=Outcome.INTERNAL, exit_code=12))
        with pytest.raises(JudgeFaultError, match="errno 12"):
            await Engine(REGISTRY, sandbox, MemoryCache()).judge(make())
        assert sandbox.runs == 4

    async def test_a_retry_does_not_compile_again(self):
        def program(stdin: bytes) -> Ran:
            return Ran(outcome=Outcome.INTERNAL, exit_code=12) if sandbox.runs == 1 else Ran(stdout=stdin)

        sandbox = FakeSandbox(program)
        judgement = await Engine(REGISTRY, sandbox, MemoryCache()).judge(make())
        assert judgement.verdict is Verdict.AC
        assert (sandbox.compiles, sandbox.runs) == (1, 2)


async def test_a_language_without_a_compiler_has_no_report():
    sandbox = FakeSandbox()
    judgement = await Engine(REGISTRY, sandbox, MemoryCache()).judge(make(language="python"))
    assert judgement.compile is None
    assert (sandbox.compiles, sandbox.runs) == (0, 1)


async def test_equal_tests_each_get_a_result():
    twins = [{"id": "a", **ECHO_TESTS[0]}, {"id": "b", **ECHO_TESTS[0]}]
    engine = Engine(REGISTRY, FakeSandbox(), MemoryCache())
    assert [test.id for test in (await engine.judge(make(twins))).tests] == ["a", "b"]
