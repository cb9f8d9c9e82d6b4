"""Process trees: nothing of a run outlives it, hides its CPU time, or harms the others."""

from __future__ import annotations

import errno
import struct
import time
import unittest
from pathlib import Path

from harness import (
    CANCEL,
    CANCELLED,
    CPU,
    DONE,
    EXITED,
    INPUT,
    MIB,
    OUTPUT,
    PARALLEL,
    PROBE,
    RESULT,
    RUNNING,
    WALL,
    Job,
    Report,
    Sandbox,
    frame,
    parse_result,
)


class Processes(unittest.TestCase):
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox()

    @classmethod
    def tearDownClass(cls) -> None:
        assert cls.sandbox.close() == 0

    def probe(self, *argv: object, **options: object) -> Report:
        report = self.sandbox.probe(*argv, **options)
        self.assertTrue(report.clean, report.why)
        self.assertEqual(self.strangers(), [])
        return report

    def strangers(self) -> list[str]:
        """Processes of this sandbox's uids."""
        found = []
        for path in Path("/proc").glob("[0-9]*/status"):
            try:
                uid = int(path.read_text().split("\nUid:\t")[1].split()[0])
            except (OSError, IndexError):
                continue
            if self.sandbox.uid_base <= uid < self.sandbox.uid_base + 10_000:
                found.append(str(path))
        return found

    def test_waited_children_are_charged(self) -> None:
        one = self.probe("waited-children", 3, 0.1).one
        self.assertAlmostEqual(one.cpu, 0.3, delta=0.03)

    def test_children_killed_with_the_program_are_charged(self) -> None:
        one = self.probe("orphan", 5, 600).one
        self.assertEqual(one.outcome, EXITED)
        self.assertGreater(one.cpu, 0.1)
        self.assertLess(one.wall, 1)

    def test_orphans_are_charged(self) -> None:
        one = self.probe("reparent", 0.15, 1000).one
        self.assertAlmostEqual(one.cpu, 0.15, delta=0.03)
        self.assertEqual(one.outcome, EXITED)
        one = self.probe("reparent", 10, 5000, cpu=0.2).one
        self.assertEqual(one.outcome, CPU)
        self.assertLess(one.cpu, 0.3)

    def test_children_that_nobody_waits_for_are_charged(self) -> None:
        # Far more than the limit: such time is found by sampling, and a busy machine samples late.
        one = self.probe("ignored-children", 30, 0.15, cpu=0.4).one
        self.assertEqual(one.outcome, CPU)

    def test_daemon_is_killed(self) -> None:
        for place in ("/tmp/alive", "/dev/shm/alive"):
            one = self.probe("daemon", place).one
            self.assertEqual(one.outcome, EXITED)

    def test_undumpable_child_is_killed(self) -> None:
        self.assertEqual(self.probe("undumpable-child", 5000).one.outcome, EXITED)

    def test_fork_bomb(self) -> None:
        one = self.probe("fork-bomb", processes=20, wall=3).one
        self.assertEqual(one.outcome, EXITED)
        self.assertLess(int(one.stdout), 20)
        # The bomb goes on while an innocent neighbour runs.
        self.sandbox.send(Job([PROBE, "fork-bomb"], inputs=[b""] * 10, processes=40, parallel=5).frames())
        self.assertTrue(self.sandbox.finish().clean)
        self.assertEqual(self.strangers(), [])

    def test_threads_count_as_processes(self) -> None:
        self.assertEqual(self.probe("threads", 100, processes=10).one.stdout, b"9\n")
        self.assertEqual(self.probe("threads", 5, processes=10).one.stdout, b"5\n")
        self.assertEqual(self.probe("exit", 0, processes=0).one.outcome, EXITED)

    def test_tracer_cannot_hold_back_the_end(self) -> None:
        one = self.probe("traced", 20000, wall=0.5).one
        self.assertIn(one.outcome, (EXITED, WALL))
        self.assertLess(one.wall, 1)

    def test_attacks_on_the_runner(self) -> None:
        one = self.probe("attack").one
        lines = dict(line.split() for line in one.stdout.decode().splitlines())
        for name in ("kill1", "trace", "fd", "mem", "nice", "box", "prlimit", "work"):
            self.assertEqual(lines[name], "-1", name)

    def test_parallel_runs(self) -> None:
        for parallel, least, most in ((1, 0.8, 1.5), (4, 0.2, 0.6)):
            start = time.monotonic()
            report = self.sandbox.run(Job([PROBE, "sleep", "200"], inputs=[b""] * 4, parallel=parallel))
            self.assertTrue(least <= time.monotonic() - start < most)
            self.assertEqual([result.outcome for result in report.results], [EXITED] * 4)

    def test_limits_are_per_run(self) -> None:
        report = self.sandbox.run(Job([PROBE, "burn", "0.1"], inputs=[b""] * 6, parallel=6, cpu=0.15))
        self.assertEqual([result.outcome for result in report.results], [EXITED] * 6)
        for result in report.results:
            self.assertAlmostEqual(result.cpu, 0.1, delta=0.03)

    def test_results_stream(self) -> None:
        script = "read t; sleep $t; echo $t"
        inputs = [b"0.6\n", b"0.01\n", b"0.3\n"]
        self.sandbox.send(Job(["sh", "-c", script], inputs=inputs, parallel=3).frames())
        start = time.monotonic()
        arrivals = []
        for _ in inputs:
            result = parse_result(self.sandbox.read()[1])
            arrivals.append((result.index, time.monotonic() - start))
        self.assertEqual([index for index, _ in arrivals], [1, 2, 0])
        self.assertLess(arrivals[0][1], 0.2)
        self.assertTrue(self.sandbox.finish().clean)

    def test_run_starts_before_all_inputs_are_there(self) -> None:
        job = Job([PROBE, "cat"], inputs=[b"a", b"b"])
        self.sandbox.send(job.frames()[: -len(frame(INPUT, b"xxxxb"))])
        self.assertEqual(parse_result(self.sandbox.read()[1]).stdout, b"a")
        self.sandbox.send(frame(INPUT, struct.pack("<I", 1) + b"c"))
        self.assertEqual(self.sandbox.finish().one.stdout, b"c")

    def test_cancel(self) -> None:
        job = Job([PROBE, "sleep", "3000"], inputs=[b""] * 6, parallel=2, job_id=7)
        self.sandbox.send(job.frames())
        time.sleep(0.1)
        start = time.monotonic()
        self.sandbox.send(frame(CANCEL, struct.pack("<II", 8, 0)))
        self.sandbox.send(frame(CANCEL, struct.pack("<II", 7, 0)))
        report = self.sandbox.finish()
        self.assertLess(time.monotonic() - start, 0.5)
        self.assertEqual([result.outcome for result in report.results], [CANCELLED] * 6)
        self.assertTrue(report.clean)

    def test_cancel_from_an_index_on(self) -> None:
        job = Job([PROBE, "sleep", "300"], inputs=[b""] * 4, parallel=4)
        data = job.frames()
        last = len(frame(INPUT, b"xxxx"))
        self.sandbox.send(data[:-last])
        self.sandbox.send(frame(CANCEL, struct.pack("<II", 1, 2)))
        self.sandbox.send(data[-last:])
        report = self.sandbox.finish()
        self.assertEqual([result.outcome for result in report.results], [EXITED, EXITED, CANCELLED, CANCELLED])

    def test_parallel_changes_on_the_way(self) -> None:
        job = Job([PROBE, "sleep", "200"], inputs=[b""] * 4, parallel=0)
        self.sandbox.send(job.frames())
        with self.assertRaises(TimeoutError):
            self.sandbox.read(0.2)
        start = time.monotonic()
        self.sandbox.send(frame(PARALLEL, struct.pack("<IH", 1, 4)))
        self.assertEqual(len(self.sandbox.finish().results), 4)
        self.assertLess(time.monotonic() - start, 0.6)

    def test_a_new_bound_is_answered_when_it_is_kept(self) -> None:
        self.sandbox.send(Job([PROBE, "sleep", "200"], inputs=[b""] * 4, parallel=2).frames())
        time.sleep(0.1)
        self.sandbox.send(frame(PARALLEL, struct.pack("<IH", 1, 0)))
        ended = [self.sandbox.read()[0] for _ in range(3)]
        self.assertEqual(sorted(ended[:2]) + ended[2:], [RESULT, RESULT, RUNNING])
        with self.assertRaises(TimeoutError):
            self.sandbox.read(0.4)
        self.sandbox.send(frame(PARALLEL, struct.pack("<IH", 1, 1)))
        report = self.sandbox.finish()
        self.assertEqual(report.order, [RUNNING, RESULT, RESULT, DONE])
        self.assertTrue(report.clean, report.why)

    def test_a_bound_for_another_job_is_not_answered(self) -> None:
        self.sandbox.send(Job([PROBE, "sleep", "100"], inputs=[b""] * 2, parallel=1).frames())
        self.sandbox.send(frame(PARALLEL, struct.pack("<IH", 2, 0)))
        self.assertEqual(self.sandbox.finish().order, [RESULT, RESULT, DONE])

    def test_slow_reader_does_not_delay_limits(self) -> None:
        job = Job([PROBE, "patient-flood", "1"], inputs=[b""] * 8, parallel=2, output=2 * MIB)
        self.sandbox.send(job.frames())
        time.sleep(1)
        report = self.sandbox.finish()
        self.assertEqual([result.outcome for result in report.results], [OUTPUT] * 8)
        for result in report.results:
            self.assertLess(result.wall, 0.5)
            self.assertEqual(len(result.stdout), 2 * MIB)

    def test_a_thousand_runs_leak_nothing(self) -> None:
        descriptors = Path(f"/proc/{self.sandbox.pid}/fd")
        self.probe("exit", 0)
        before = len(list(descriptors.iterdir()))
        report = self.sandbox.run(Job([PROBE, "exit", "0"], inputs=[b"x"] * 1000, parallel=3))
        self.assertEqual({result.outcome for result in report.results}, {EXITED})
        self.assertEqual(len(report.results), 1000)
        self.assertEqual(len(list(descriptors.iterdir())), before)

    def test_posix_queues_are_refused(self) -> None:
        self.assertEqual(self.probe("mqueue").one.stdout, b"%d\n" % errno.EMFILE)


if __name__ == "__main__":
    unittest.main()
