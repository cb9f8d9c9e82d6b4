"""Between jobs nothing is left, or the container says that it is not clean."""

from __future__ import annotations

import errno
import unittest
from pathlib import Path

from harness import EXITED, INTERNAL, PROBE, Job, Sandbox


class Reset(unittest.TestCase):
    def test_litter_everywhere(self) -> None:
        with Sandbox() as sandbox:
            for place, depth in ((".", 500), ("/tmp", 20000), ("/dev/shm", 500)):
                report = sandbox.probe("litter", place, depth)
                self.assertEqual((report.one.outcome, report.one.code), (EXITED, 0), place)
                self.assertTrue(report.clean, report.why)
            for place in ("box", "scratch", "tmp", "dev/shm", "dev/mqueue"):
                self.assertEqual(list(Path(f"/proc/{sandbox.pid}/root/{place}").iterdir()), [])

    def test_uids_are_never_used_again(self) -> None:
        with Sandbox(uid_count=3) as sandbox:
            report = sandbox.run(Job(["id", "-u"], inputs=[b"", b""]))
            self.assertEqual(
                {int(result.stdout) for result in report.results}, {sandbox.uid_base, sandbox.uid_base + 1}
            )
            self.assertTrue(report.clean)
            report = sandbox.run(Job(["id", "-u"], inputs=[b"", b""], parallel=1))
            self.assertEqual(int(report.results[0].stdout), sandbox.uid_base + 2)
            self.assertEqual((report.results[1].outcome, report.results[1].code), (INTERNAL, errno.EUSERS))
            self.assertEqual((report.clean, report.why), (False, "all uids are used up"))

    def test_system_v_ipc(self) -> None:
        with Sandbox() as sandbox:
            report = sandbox.probe("ipc")
            self.assertEqual((report.one.outcome, report.one.code), (EXITED, 0))
            self.assertTrue(report.clean, report.why)
            left = sandbox.run(Job(["sh", "-c", "cat /proc/sysvipc/* | wc -l"])).one.stdout
            self.assertEqual(left, b"3\n")

    def test_the_runs_of_a_job_see_one_another_only_in_shared_places(self) -> None:
        with Sandbox() as sandbox:
            look = "ls /scratch; cat /scratch/*/mine; for i in 0 1 2 3; do cat /scratch/$((BASE+i))/mine; done"
            script = "echo $$ > mine; " + look
            job = Job(["sh", "-c", script], inputs=[b""] * 3, env=[f"BASE={sandbox.uid_base}"])
            for result in sandbox.run(job).results:
                self.assertEqual(len(result.stdout.split()), 1)

    def test_work_is_noexec_and_box_is_read_only(self) -> None:
        with Sandbox() as sandbox:
            script = "cp /bin/true t; ./t; echo $?; touch /box/x 2>&1 || echo no"
            out = sandbox.run(Job(["sh", "-c", script], file_bytes=1 << 20)).one.stdout
            self.assertIn(b"126\n", out)
            self.assertTrue(out.endswith(b"no\n"))

    def test_many_jobs(self) -> None:
        with Sandbox() as sandbox:
            for i in range(50):
                report = sandbox.run(Job([PROBE, "cat"], inputs=[b"x"] * 3, job_id=i, files=[("f", 0o644, b"y")]))
                self.assertTrue(report.clean, report.why)


if __name__ == "__main__":
    unittest.main()
