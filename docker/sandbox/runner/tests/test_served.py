"""The fork server: the same results as by exec, unless it writes to captures itself; and what is served, is served."""

from __future__ import annotations

import os
import signal
import struct
import time
import unittest
from pathlib import Path

from harness import (
    CANCEL,
    CANCELLED,
    CPU,
    EXITED,
    MEMORY,
    MIB,
    OUTPUT,
    SIGNALED,
    WALL,
    Job,
    Report,
    Result,
    Sandbox,
    frame,
)

PROGRAMS = "/opt/evalx/programs"
PROBE = f"{PROGRAMS}/probe-dynamic"
BREACH = f"{PROGRAMS}/breach"
#: Each has 300 ms of time for 50 ms of work.
ATTEMPTS = 30


class Served(unittest.TestCase):
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox()

    @classmethod
    def tearDownClass(cls) -> None:
        assert cls.sandbox.close() == 0

    def serve(self, *argv: object, inputs: list[bytes] | None = None, mode: int = 1, **options: object) -> Report:
        words = list(map(str, argv))
        report = self.sandbox.run(Job(words, inputs=inputs or [b"a", b"b", b"c"], mode=mode, **options))  # type: ignore[arg-type]
        self.assertTrue(report.clean, report.why)
        return report

    def serve_forked(self, *argv: object) -> Report:
        """For a program that works before it answers: on a busy machine the runner's patience may end earlier."""
        report = self.serve(*argv)
        for _ in range(ATTEMPTS):
            if self.ways(report.results) == {True}:
                break
            report = self.serve(*argv)
        self.assertEqual(self.ways(report.results), {True})
        return report

    def ways(self, results: list[Result]) -> set[bool]:
        return {result.served for result in results}

    # What is served

    def test_ordinary_ends_are_served(self) -> None:
        for argv, outcome, code in (
            (("exit", 0), EXITED, 0),
            (("exit", 42), EXITED, 42),
            (("signal", int(signal.SIGSEGV)), SIGNALED, signal.SIGSEGV),
            (("signal", int(signal.SIGABRT)), SIGNALED, signal.SIGABRT),
        ):
            for result in self.serve(PROBE, *argv).results:
                self.assertEqual((result.outcome, result.code, result.served), (outcome, code, True))

    def test_limits_are_served(self) -> None:
        for argv, options, outcome in (
            (("burn", 10), {"cpu": 0.2}, CPU),
            (("sleep", 5000), {"wall": 0.2}, WALL),
            (("stop",), {"wall": 0.2}, WALL),
            (("touch", 500), {"memory": 64 * MIB}, MEMORY),
            (("output", 1, 10001), {"output": 10000}, OUTPUT),
            (("patient-flood", 2), {"output": 10000}, OUTPUT),
        ):
            for result in self.serve(PROBE, *argv, **options).results:  # type: ignore[arg-type]
                self.assertEqual((result.outcome, result.served), (outcome, True), argv)

    def test_whole_life_of_a_program(self) -> None:
        inputs = [b"", b"one", b"x" * 60000]
        for result, data in zip(self.serve(BREACH, "honest", inputs=inputs).results, inputs, strict=True):
            self.assertEqual((result.outcome, result.code, result.served), (EXITED, 7, True))
            self.assertEqual(result.stdout, data + b"|end")

    def test_cpu_time_and_memory_as_by_exec(self) -> None:
        for mode in (0, 1):
            for result in self.serve(PROBE, "burn", 0.2, mode=mode).results:
                self.assertEqual(result.served, mode == 1)
                self.assertAlmostEqual(result.cpu, 0.2, delta=0.01)
            for size in (16, 64, 200):
                for result in self.serve(PROBE, "touch", size, mode=mode).results:
                    self.assertAlmostEqual(result.peak, size * MIB, delta=0.05 * size * MIB + 2 * MIB)

    def test_environment_is_only_what_was_asked_for(self) -> None:
        texts = []
        for mode in (0, 1):
            one = self.serve(PROBE, "state", env=["A=1"], inputs=[b""], mode=mode).one
            lines = one.stdout.decode().splitlines()
            texts.append([line for line in lines if not line.startswith(("uid", "cwd", "limit6"))])
        self.assertEqual(texts[0], texts[1])
        for argument in (["A=1"], ["LD_LIBRARY_PATH=/nowhere"]):
            one = self.serve(PROBE, "state", env=argument, inputs=[b""]).one
            self.assertEqual((one.served, f"env {argument[0]}".encode() in one.stdout), (argument == ["A=1"], True))

    def test_private_directories(self) -> None:
        """Only one that is as it was made serves another test."""
        inputs = [b"a", b"m", b"a", b"c", b"a", b"m", b"m", b"a"]
        for parallel in (1, 3):
            report = self.serve(f"{PROGRAMS}/linked", inputs=inputs, env=["A=1"], parallel=parallel)
            for result in report.results:
                self.assertEqual((result.code, result.served), (0, True))
                self.assertTrue(result.stdout.endswith(b"entries 0 mode 700\n" + inputs[result.index]), result.stdout)

    def test_private_stderr(self) -> None:
        """Only one that is empty and as it was made serves another test, which sees no difference."""
        inputs = [b"a", b"a", b"w", b"a", b"t", b"n", b"a", b"s", b"l", b"f", b"a", b"w", b"a", b"a"]
        for parallel in (1, 3):
            report = self.serve(f"{PROGRAMS}/capture", inputs=inputs, parallel=parallel)
            ended_with: dict[bytes, bytes] = {}
            for result in report.results:
                number, _, state = result.stdout.partition(b" ")
                how = inputs[result.index]
                self.assertEqual((result.code, result.served, state), (0, True, b"new\n"))
                self.assertEqual(result.stderr, b"said" if how == b"w" else b"")
                self.assertEqual(ended_with.get(number, b"a"), b"a", "served again after it was changed")
                ended_with[number] = how
            self.assertLess(len(ended_with), len(inputs))

    def test_private_stdout(self) -> None:
        """Only one that could be made as it was serves another test, which sees no difference, and its output stays."""
        inputs = [b"a", b"a", b"w", b"a", b"n", b"a", b"s", b"l", b"a", b"f", b"a", b"a"]
        for parallel in (1, 3):
            report = self.serve(f"{PROGRAMS}/capture", "1", inputs=inputs, parallel=parallel)
            ended_with: dict[bytes, bytes] = {}
            for result in report.results:
                number, _, state = result.stdout.partition(b" ")
                how = inputs[result.index]
                self.assertEqual((result.code, result.served), (0, True))
                self.assertEqual(state, b"new\nsaid" if how == b"w" else b"new\n")
                self.assertNotIn(ended_with.get(number), (b"n", b"s"), "served again after it was changed")
                ended_with[number] = how
            self.assertLess(len(ended_with), len(inputs))

    def test_long_and_short_outputs(self) -> None:
        """A short one is copied when its test has ended, a long one is sent from its file."""
        inputs = [b"x" * size for size in (4090, 0, 4096, 4097, 1, 70_000, 5000, 3)]
        for parallel, output in ((1, 1 << 20), (3, 1 << 20), (3, 4095)):
            for result in self.serve(PROBE, "cat", inputs=inputs, parallel=parallel, output=output).results:
                wanted = inputs[result.index]
                over = len(wanted) > output
                self.assertEqual((result.outcome == OUTPUT, result.served), (over, True))
                self.assertTrue(wanted.startswith(result.stdout))
                self.assertEqual(len(result.stdout), min(len(wanted), output))

    # What is charged

    def test_computing_before_main_is_on_every_bill(self) -> None:
        for argv in ((BREACH, "early-burn"), (BREACH, "constructor-burn")):
            for result in self.serve_forked(*argv).results:
                # Once in full, and not twice.
                self.assertGreaterEqual(result.cpu, 0.05)
                self.assertLess(result.cpu, 0.1)
            for result in self.serve(*argv, cpu=0.03).results:
                self.assertEqual(result.outcome, CPU)
        for result in self.serve(f"{PROGRAMS}/ifunc").results:
            self.assertGreater(result.cpu, 0.03)
        for result in self.serve(BREACH, "early-touch").results:
            self.assertGreater(result.peak, 40 * MIB)
        for result in self.serve(BREACH, "early-touch", memory=30 * MIB).results:
            self.assertEqual(result.outcome, MEMORY)

    def test_a_linked_in_server_forks_after_the_library_and_before_the_program(self) -> None:
        cpus = len(os.sched_getaffinity(0))
        for on_cpu in (0, 1, 2, 999):
            for result in self.serve(f"{PROGRAMS}/linked", env=["A=1"], on_cpu=on_cpu).results:
                self.assertTrue(result.served)
                seen = f"library before program here cpus {cpus}\nA=1\nentries 0 mode 700\n".encode()
                self.assertEqual(result.stdout, seen + b"abc"[result.index :][:1])
        # The mark is only for the server: without a fork server the program starts as any other.
        for result in self.serve(f"{PROGRAMS}/linked", env=["A=1"], on_cpu=1, mode=0).results:
            self.assertFalse(result.served)
            self.assertTrue(result.stdout.startswith(f"library here program here cpus {cpus}\nA=1\n".encode()))

    # What falls back

    def test_a_program_that_only_says_that_it_has_a_server(self) -> None:
        for result in self.serve(f"{PROGRAMS}/forged", env=["A=1"]).results:
            self.assertFalse(result.served)
            self.assertIn(b"library here program here", result.stdout)
            self.assertIn(b"\nA=1\n", result.stdout)
            self.assertTrue(result.stdout.endswith(b"abc"[result.index :][:1]))

    def check_fallback(self, *argv: object, started: int = 0, **options: object) -> None:
        start = time.monotonic()
        inputs = [b"a", b"b", b"c", b"d", b"e"]
        results = self.serve(*argv, inputs=inputs, **options).results
        self.assertLess(time.monotonic() - start, 2)
        self.assertEqual([(r.outcome, r.code) for r in results], [(EXITED, 7)] * 5)
        self.assertEqual([r.stdout for r in results], [data + b"|end" for data in inputs])
        self.assertLessEqual(sum(result.served for result in results), started, argv)

    def test_server_that_breaks_the_protocol(self) -> None:
        for how, served in {
            "silent": 0, "dies": 0, "flood": 0, "long": 0, "lie-early": 0, "lie": 0, "hang-later": 2, "die-later": 2,
            "stray": 0, "own-child": 0, "twice": 0, "wrong-number": 0, "fork-later": 1, "early-thread": 0,
        }.items():  # fmt: skip
            for parallel in (1, 3):
                with self.subTest(how=how, parallel=parallel):
                    self.check_fallback(BREACH, how, started=served, parallel=parallel)

    def test_captures_that_others_could_change(self) -> None:
        """What was written when a test ended is its output, whoever holds the file; a long one is sealed."""
        self.check_fallback(BREACH, "honest", "seal", started=5)
        self.check_fallback(BREACH, "keep-map", started=5)
        long = [letter * 5000 for letter in (b"a", b"b", b"c")]
        for how, served in ("keep-map", False), ("keep-file", True):
            for result in self.serve(BREACH, how, inputs=long, parallel=1).results:
                self.assertEqual((result.stdout, result.served), (long[result.index] + b"|end", served))

    def test_a_server_that_keeps_files_spoils_no_output_of_a_test_that_has_ended(self) -> None:
        """At each request it changes the file of the test before, which may be that of the next one."""
        inputs = [b"a", b"b", b"c", b"d", b"e"]
        for result in self.serve(BREACH, "keep-file", inputs=inputs, parallel=1).results:
            honest = inputs[result.index] + b"|end"
            self.assertIn(result.stdout, (honest, b"f" + honest) if result.index > 0 else (honest,))
        self.check_fallback(BREACH, "honest", started=5)

    def test_tests_that_trace_each_other(self) -> None:
        """Two that trace each other can stop each other for good: that is on their own bill, at their wall limit."""
        inputs = [b"a", b"b", b"c", b"d", b"e"]
        for result in self.serve(BREACH, "honest", "trace", inputs=inputs, parallel=3, wall=1).results:
            if result.outcome != WALL:
                self.assertEqual(
                    (result.outcome, result.code, result.stdout), (EXITED, 7, inputs[result.index] + b"|end")
                )

    def test_server_that_computes_for_its_tests(self) -> None:
        results = self.serve(BREACH, "compute").results
        self.assertEqual(self.ways(results), {False})

    def test_output_before_main(self) -> None:
        for result in self.serve(BREACH, "early-write").results:
            self.assertEqual((result.stdout[:6], result.served), (b"early ", False))

    def test_threads_of_a_constructor(self) -> None:
        self.check_fallback(BREACH, "constructor-thread")

    def test_static_programs_and_scripts(self) -> None:
        self.assertEqual(self.ways(self.serve(f"{PROGRAMS}/probe", "exit", 0).results), {False})
        script = [("main", 0o755, b"#!/bin/sh\ncat\n")]
        self.assertEqual([r.stdout for r in self.serve("/box/main", files=script).results], [b"a", b"b", b"c"])
        broken = [("main", 0o755, b"\x7fELF" + b"\x02" * 60)]
        results = self.serve("/box/main", files=broken).results
        self.assertEqual({(r.outcome, r.code, r.served) for r in results}, {(EXITED, 126, False)})

    def test_programs_that_fork(self) -> None:
        for result in self.serve(PROBE, "waited-children", 3, 0.02).results:
            self.assertEqual((result.outcome, result.served), (EXITED, False))
            self.assertAlmostEqual(result.cpu, 0.06, delta=0.03)
        for result in self.serve(PROBE, "threads", 100, processes=10).results:
            self.assertEqual(result.stdout, b"9\n")

    def test_second_start_finds_nothing_of_the_first(self) -> None:
        self.assertEqual([r.code for r in self.serve(BREACH, "honest", "leave", parallel=1).results], [0, 0, 0])

    def test_signals_that_others_may_have_sent(self) -> None:
        for number in (signal.SIGKILL, signal.SIGTERM):
            results = self.serve(BREACH, "honest", "kill-all", int(number), inputs=[b"x"] * 6, parallel=3).results
            # kill(-1) spares its caller, and by exec there is nobody else to hit.
            self.assertEqual([(r.outcome, r.code, r.stdout) for r in results], [(EXITED, 7, b"x|end")] * 6)
        for result in self.serve(BREACH, "honest", "raise").results:
            self.assertEqual((result.outcome, result.code, result.served), (SIGNALED, signal.SIGUSR1, False))

    def test_a_thousand_runs_leak_nothing(self) -> None:
        descriptors = Path(f"/proc/{self.sandbox.pid}/fd")
        self.serve(PROBE, "exit", 0)
        before = len(list(descriptors.iterdir()))
        results = self.serve(PROBE, "exit", 0, inputs=[b"x"] * 1000, parallel=3).results
        self.assertEqual((len(results), self.ways(results)), (1000, {True}))
        self.check_fallback(BREACH, "hang-later", started=2)
        self.assertEqual(len(list(descriptors.iterdir())), before)

    def test_cancel(self) -> None:
        for argv in ((PROBE, "sleep", "3000"), (BREACH, "silent", "leave")):
            self.sandbox.send(Job(list(argv), inputs=[b""] * 6, mode=1, job_id=7).frames())
            time.sleep(0.1)
            self.sandbox.send(frame(CANCEL, struct.pack("<II", 7, 0)))
            report = self.sandbox.finish()
            self.assertEqual(([r.outcome for r in report.results], report.clean), ([CANCELLED] * 6, True))


if __name__ == "__main__":
    unittest.main()
