"""Runs that are forked by a warm interpreter, here one that does as it is told: `fakewarm.c`."""

from __future__ import annotations

import struct
import unittest
from pathlib import Path

from harness import CPU, EXITED, FATAL, MIB, MODE, OUTPUT, PING, PONG, WARM, Job, Report, Sandbox, frame, str16

FAKE = "/opt/evalx/programs/fakewarm"
ENVIRONMENT = ["PATH=/usr/bin:/bin", "A=b"]
WARM_MODE = 2


def strings(*values: str) -> bytes:
    """A list of strings as in a JOB."""
    return struct.pack("<H", len(values)) + b"".join(map(str16, values))


def warm_frame(*how: str) -> bytes:
    """A WARM for the fake."""
    return frame(WARM, strings(FAKE, *how) + strings(*ENVIRONMENT))


def warm_sandbox(*how: str, **options: object) -> Sandbox:
    """A sandbox whose interpreter is ready, or has failed."""
    sandbox = Sandbox(warm=True, **options)  # type: ignore[arg-type]
    sandbox.send(warm_frame(*how) + frame(PING))
    kind = sandbox.read()[0]
    assert kind == PONG, kind
    return sandbox


def job(*how: str, **options: object) -> Job:
    """Tests of the program that the fake is warm for."""
    return Job([FAKE, *how], **{"mode": WARM_MODE, "env": ENVIRONMENT, "inputs": [b"a", b"b", b"c"]} | options)  # type: ignore[arg-type]


def ways(report: Report) -> list[str]:
    """How each run came about; all must have been as runs are."""
    found = []
    for result, text in zip(report.results, "abc", strict=False):
        way, sound, _, said = result.stdout.decode().split()
        assert (sound, said, result.stderr) == ("sound", text, b"error"), result
        assert (result.outcome, result.code, result.warm) == (EXITED, 3, way != "exec"), result
        found.append(way)
    return found


def uids(report: Report) -> set[int]:
    """Of the runs."""
    return {int(result.stdout.split()[2]) for result in report.results}


@unittest.skipIf(MODE == 1, "a mode of its own, passed with MODE=0")
class Warm(unittest.TestCase):
    def test_tests_are_forked_from_it_over_all_jobs(self) -> None:
        with warm_sandbox("good") as sandbox:
            seen: set[int] = set()
            for _ in range(3):
                report = sandbox.run(job("good"))
                self.assertEqual((ways(report), report.clean), (["code"] * 3, True), report.why)
                self.assertEqual(len(uids(report) - seen), 3)
                seen |= uids(report)

    def test_one_test_is_not_compiled_beforehand(self) -> None:
        with warm_sandbox("good") as sandbox:
            report = sandbox.run(job("good", inputs=[b"a"]))
            self.assertEqual((ways(report), report.clean), (["warm"], True), report.why)

    def test_other_programs_go_by_exec(self) -> None:
        with warm_sandbox("good") as sandbox:
            others = [
                job("good", "more"),
                job("bad"),
                job("good", env=["A=b"]),
                job("good", mode=0),
                job("good", mode=1),
            ]
            for other in others:
                report = sandbox.run(other)
                self.assertEqual((ways(report), report.clean), (["exec"] * 3, True), report.why)
            self.assertEqual(ways(sandbox.run(job("good"))), ["code"] * 3)

    def test_without_one_everything_goes_by_exec(self) -> None:
        for sandbox in (Sandbox(), warm_sandbox("fails"), Sandbox(warm=True)):
            with sandbox:
                report = sandbox.run(job("fails"))
                self.assertEqual((ways(report), report.clean), (["exec"] * 3, True), report.why)

    def test_a_warm_frame_without_an_interpreter_is_answered(self) -> None:
        with Sandbox() as sandbox:
            sandbox.send(warm_frame("good") + frame(PING))
            self.assertEqual(sandbox.read(), (PONG, b""))
            self.assertEqual(ways(sandbox.run(job("good"))), ["exec"] * 3)

    def test_the_compiling_is_on_the_bill_of_each(self) -> None:
        with warm_sandbox("good") as sandbox:
            for result in sandbox.run(job("good")).results:
                self.assertGreaterEqual(result.cpu, 0.03)
            for result in sandbox.run(job("good", cpu=0.01)).results:
                self.assertEqual(result.outcome, CPU)

    def test_what_it_has_imported_is_not(self) -> None:
        with warm_sandbox("has_imported") as sandbox:
            for result in sandbox.run(job("has_imported")).results:
                self.assertEqual(result.peak, 0)
        with warm_sandbox("good") as sandbox:
            for result in sandbox.run(job("good")).results:
                self.assertGreater(result.peak, 0)

    def test_limits_hold(self) -> None:
        with warm_sandbox("good") as sandbox:
            results = sandbox.run(job("good", output=16)).results
            self.assertEqual([result.outcome for result in results], [OUTPUT] * 3)
            self.assertEqual({result.stdout[:11] for result in results}, {b"code sound "})
            self.assertEqual({len(result.stdout) for result in results}, {16})

    def test_a_source_that_does_not_compile(self) -> None:
        for how, way in (("no_code", "warm"), ("not_a_source", "exec")):
            with warm_sandbox(how) as sandbox:
                report = sandbox.run(job(how))
                self.assertEqual((ways(report), report.clean), ([way] * 3, True), report.why)

    def test_a_copy_that_ends_as_root_never_was_a_test(self) -> None:
        with warm_sandbox("stays_root") as sandbox:
            report = sandbox.run(job("stays_root"))
            self.assertEqual((ways(report), report.clean), (["exec"] * 3, True), report.why)

    def test_one_that_goes_wrong_costs_the_container(self) -> None:
        for how, why in (
            ("dies", "does not answer"),
            ("miscounts", "does not answer"),
            ("names_the_runner", "does not answer"),
            ("stops", "has stopped"),
        ):
            with warm_sandbox(how) as sandbox:
                report = sandbox.run(job(how, inputs=[b"a", b"b"], parallel=1))
                self.assertEqual(ways(report)[0], "code" if how == "stops" else "exec", how)
                self.assertFalse(report.clean)
                self.assertTrue(report.why.startswith("the warm interpreter "), report.why)
                self.assertIn(why, report.why)

    def test_one_that_is_killed_costs_the_container(self) -> None:
        with warm_sandbox("good") as sandbox:
            self.assertEqual(ways(sandbox.run(job("good"))), ["code"] * 3)
            (pid,) = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
            sandbox.kill(int(pid))
            report = sandbox.run(job("good"))
            self.assertEqual((ways(report), report.clean), (["exec"] * 3, False))
            self.assertIn("the warm interpreter", report.why)

    def test_nothing_else_stays(self) -> None:
        with warm_sandbox("leaves_a_child") as sandbox:
            report = sandbox.run(job("leaves_a_child"))
            self.assertEqual(report.clean, True, report.why)
            children = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
            (server,) = children
            self.assertEqual(Path(f"/proc/{server}/task/{server}/children").read_text(), "")

    def test_it_is_idle_between_jobs(self) -> None:
        with warm_sandbox("good") as sandbox:
            sandbox.run(job("good"))
            (server,) = Path(f"/proc/{sandbox.pid}/task/{sandbox.pid}/children").read_text().split()
            status = Path(f"/proc/{server}/status").read_text()
            self.assertIn("Uid:\t0", status)
            self.assertEqual(len(list(Path(f"/proc/{server}/fd").iterdir())), 4)

    def test_nonsense_is_fatal(self) -> None:
        good = warm_frame("good")
        running = Job(["sleep", "10"]).frames()
        for name, data in {
            "twice": good + good,
            "within a job": running + good,
            "empty": frame(WARM),
            "no argv": frame(WARM, strings() + strings()),
            "a tail": frame(WARM, good[5:] + b"x"),
            "a lie": frame(WARM, struct.pack("<HH", 1, 500)),
            "giant": struct.pack("<IB", 1 * MIB, WARM),
        }.items():
            with self.subTest(name):
                sandbox = Sandbox(warm=True)
                sandbox.send(data)
                self.assertEqual(sandbox.read()[0], FATAL)
                self.assertEqual(sandbox.close(), 2)


if __name__ == "__main__":
    unittest.main()
