"""What the processes of a run do not show: the container's cgroup knows it."""

from __future__ import annotations

import unittest

from harness import CPU, EXITED, MEMORY, MIB, PROBE, Job, Sandbox, cgroup


class Unseen(unittest.TestCase):
    def test_memory_that_no_process_has_mapped(self) -> None:
        limits = {"memory": 40 * MIB, "file_bytes": 2 * MIB}
        with cgroup(1 << 30) as path, Sandbox(cgroup=path) as sandbox:
            for attack in (("hold", "memfd", 400), ("hold", "/tmp", 200), ("hold", "/dev/shm", 200), ("let-go", 400)):
                report = sandbox.probe(*attack, **limits)
                self.assertEqual((report.one.outcome, report.clean), (MEMORY, True), attack)
                self.assertEqual(sandbox.probe("hold", "/tmp", 30, **limits).one.outcome, EXITED)

    def test_large_inputs_and_outputs_are_not_on_the_bill(self) -> None:
        with cgroup(1 << 30) as path, Sandbox(cgroup=path) as sandbox:
            job = Job([PROBE, "cat"], inputs=[b"x" * (15 * MIB)] * 4, memory=8 * MIB, output=16 * MIB, parallel=2)
            self.assertEqual({result.outcome for result in sandbox.run(job).results}, {EXITED})

    def test_work_of_short_children_that_nobody_waits_for(self) -> None:
        with cgroup(1 << 30) as path, Sandbox(cgroup=path) as sandbox:
            one = sandbox.probe("short-children", 500, cpu=0.3).one
            self.assertEqual(one.outcome, CPU)
            # What is on somebody's bill is not charged twice, however busy the machine is.
            job = Job([PROBE, "waited-children", "5", "0.1"], inputs=[b""] * 4, parallel=2, cpu=2)
            for result in sandbox.run(job).results:
                self.assertEqual(result.outcome, EXITED)
                self.assertAlmostEqual(result.cpu, 0.5, delta=0.05)


if __name__ == "__main__":
    unittest.main()
