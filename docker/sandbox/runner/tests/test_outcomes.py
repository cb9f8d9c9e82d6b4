"""What a RESULT says about one program."""

from __future__ import annotations

import errno
import os
import signal
import unittest

from harness import (
    CPU,
    EXITED,
    INTERNAL,
    MEMORY,
    MIB,
    MODE,
    OUTPUT,
    PROBE,
    PROGRAMS,
    SIGNALED,
    WALL,
    Job,
    Report,
    Sandbox,
    cgroup,
)


class Outcomes(unittest.TestCase):
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
        return report

    def test_exit_codes(self) -> None:
        for code in (0, 1, 42, 255):
            one = self.probe("exit", code).one
            self.assertEqual((one.outcome, one.code, one.died), (EXITED, code, False))

    def test_signals(self) -> None:
        for number in (signal.SIGSEGV, signal.SIGABRT, signal.SIGKILL, signal.SIGTERM, signal.SIGPIPE):
            one = self.probe("signal", int(number)).one
            self.assertEqual((one.outcome, one.code, one.died, one.flags), (SIGNALED, number, True, 0))

    def test_cpu_limit(self) -> None:
        one = self.probe("burn", 10, cpu=0.3).one
        self.assertEqual((one.outcome, one.code, one.died), (CPU, signal.SIGKILL, True))
        self.assertGreater(one.cpu, 0.3)
        self.assertLess(one.cpu, 0.4)

    def test_cpu_time_below_the_limit(self) -> None:
        one = self.probe("burn", 0.2, cpu=0.3).one
        self.assertEqual(one.outcome, EXITED)
        self.assertAlmostEqual(one.cpu, 0.2, delta=0.02)

    def test_cpu_limit_after_the_fact(self) -> None:
        one = self.probe("burn", 0.001, cpu=0.0005).one
        self.assertEqual(one.outcome, CPU)

    def test_wall_limit(self) -> None:
        for what in (["sleep", 5000], ["stop"]):
            one = self.probe(*what, wall=0.2).one
            self.assertEqual((one.outcome, one.code, one.died), (WALL, signal.SIGKILL, True))
            self.assertTrue(0.2 <= one.wall < 0.4)
            self.assertLess(one.cpu, 0.01)

    def test_memory_limit(self) -> None:
        one = self.probe("touch", 2000, memory=64 * MIB).one
        self.assertEqual((one.outcome, one.code), (MEMORY, signal.SIGKILL))
        self.assertGreater(one.peak, 64 * MIB)
        self.assertLess(one.peak, 140 * MIB)

    def test_memory_limit_after_the_fact(self) -> None:
        one = self.probe("touch", 4, memory=3 * MIB, cpu=10).one
        self.assertEqual(one.outcome, MEMORY)

    def test_address_space(self) -> None:
        one = self.probe("touch", 100, address_space=64 * MIB).one
        self.assertEqual((one.outcome, one.code), (EXITED, 9))

    def test_peak_memory(self) -> None:
        for size in (16, 64, 200):
            one = self.probe("touch", size).one
            self.assertEqual(one.outcome, EXITED)
            self.assertAlmostEqual(one.peak, size * MIB, delta=0.05 * size * MIB + 2 * MIB)

    def test_memory_of_a_tree(self) -> None:
        one = self.probe("touch-tree", 4, 16, 300).one
        self.assertEqual(one.outcome, EXITED)
        self.assertGreater(one.peak, 4 * 16 * MIB)
        one = self.probe("touch-tree", 4, 16, 2000, memory=50 * MIB).one
        self.assertEqual(one.outcome, MEMORY)
        self.assertLess(one.wall, 1)

    def test_vfork_is_not_charged_twice(self) -> None:
        one = self.probe("vfork-loop", 40, 100, memory=60 * MIB).one
        self.assertEqual(one.outcome, EXITED)
        self.assertLess(one.peak, 60 * MIB)

    def test_output_exactly_at_the_limit(self) -> None:
        for stream in (1, 2):
            one = self.probe("output", stream, 10000, output=10000).one
            self.assertEqual((one.outcome, one.flags, len(one.stdout + one.stderr)), (EXITED, 0, 10000))

    def test_output_limit(self) -> None:
        for stream in (1, 2):
            one = self.probe("output", stream, 10001, output=10000).one
            self.assertEqual((one.outcome, one.flags), (OUTPUT, stream))
            self.assertEqual((one.stdout, one.stderr)[stream - 1], b"x" * 10000)
            self.assertEqual((one.stdout, one.stderr)[2 - stream], b"")

    def test_output_flood_that_goes_on(self) -> None:
        one = self.probe("patient-flood", 1, output=10000).one
        self.assertEqual((one.outcome, len(one.stdout), one.code), (OUTPUT, 10000, signal.SIGKILL))
        self.assertLess(one.wall, 1)

    def test_large_output_without_a_limit_of_files(self) -> None:
        one = self.probe("output", 1, 20 * MIB, output=20 * MIB, file_bytes=2**64 - 1).one
        self.assertEqual((one.outcome, len(one.stdout)), (EXITED, 20 * MIB))

    def test_a_seek_cannot_make_sparse_output(self) -> None:
        one = self.probe("sparse", 30000).one
        self.assertEqual((one.outcome, one.stdout), (EXITED, b"x"))

    def test_streams(self) -> None:
        one = self.probe("both").one
        self.assertEqual((one.stdout, one.stderr), (b"out0\nout1\nout2\n", b"err0\nerr1\nerr2\n"))
        one = self.probe("both", merge=True).one
        self.assertEqual((one.stdout, one.stderr), (b"out0\nerr0\nout1\nerr1\nout2\nerr2\n", b""))

    def test_reopened_streams(self) -> None:
        one = self.probe("reopen").one
        self.assertEqual((one.code, one.stdout), (0, b"first\nsecond\nthird\n"))

    def test_stdin(self) -> None:
        inputs = [b"", b"one", bytes(range(256)) * 17, os.urandom(3 * MIB)]
        report = self.sandbox.run(Job([PROBE, "cat"], inputs=inputs, output=4 * MIB))
        self.assertEqual([result.stdout for result in report.results], inputs)

    def test_arguments(self) -> None:
        one = self.probe("args", "", "a b", "\u00e9\n").one
        self.assertEqual(one.stdout, "[][a b][\u00e9\n]".encode())

    def test_missing_binary(self) -> None:
        for argv0 in ("/box/none", "no-such-program", ""):
            one = self.sandbox.run(Job([argv0])).one
            self.assertEqual((one.outcome, one.code, one.wall), (INTERNAL, errno.ENOENT, 0))

    def test_empty_argv(self) -> None:
        one = self.sandbox.run(Job([])).one
        self.assertEqual((one.outcome, one.code), (INTERNAL, errno.EINVAL))

    def test_not_executable(self) -> None:
        one = self.sandbox.run(Job(["/box/a"], files=[("a", 0o644, b"x")])).one
        self.assertEqual((one.outcome, one.code), (INTERNAL, errno.EACCES))

    def test_a_file_of_the_job_that_is_no_program_is_the_jobs_own_fault(self) -> None:
        for content in (b"x", b"", b"\x7fELF" + b"\0" * 60):
            one = self.sandbox.run(Job(["/box/a"], files=[("a", 0o755, content)], inputs=[b""])).one
            self.assertEqual((one.outcome, one.code, one.stdout, one.stderr), (EXITED, 126, b"", b""))
        report = self.sandbox.run(Job(["/box/a"], files=[("a", 0o755, b"x")], inputs=[b""] * 3))
        self.assertEqual([(one.outcome, one.code) for one in report.results], [(EXITED, 126)] * 3)

    def test_a_loader_that_is_missing_is_the_fault_of_the_image(self) -> None:
        one = self.sandbox.run(Job(["/box/a"], files=[("a", 0o755, b"#!/none\n")])).one
        self.assertEqual((one.outcome, one.code), (INTERNAL, errno.ENOENT))

    def test_path_is_searched(self) -> None:
        for env in ([], ["PATH=/none::/etc/passwd:/usr/bin:/bin"]):
            one = self.sandbox.run(Job(["cat"], inputs=[b"x"], env=env)).one
            self.assertEqual((one.outcome, one.code, one.stdout), (EXITED, 0, b"x"))

    def test_files(self) -> None:
        program = (PROGRAMS / "probe").read_bytes()
        files = [("probe", 0o755, program), ("a/b/c.txt", 0o600, b""), ("a/b/d", 0o4755, b"x" * MIB)]
        one = self.sandbox.run(Job(["/box/probe", "exit", "3"], files=files)).one
        self.assertEqual((one.outcome, one.code), (EXITED, 3))
        one = self.sandbox.run(Job(["stat", "-c", "%a %u %s", "/box/a", "/box/a/b/d"], files=files)).one
        self.assertEqual(one.stdout, f"755 0 60\n755 0 {MIB}\n".encode())

    def test_file_that_cannot_be_placed(self) -> None:
        files = [("a", 0o755, b""), ("a/b", 0o755, b"")]
        one = self.sandbox.run(Job(["/bin/true"], files=files)).one
        self.assertEqual((one.outcome, one.code), (INTERNAL, errno.ENOTDIR))
        one = self.sandbox.run(Job(["/bin/true"], files=[("a", 0o755, b"x" * (50 * MIB))] * 1)).one
        self.assertEqual(one.outcome, EXITED)
        files = [(str(i), 0o755, b"x" * (50 * MIB)) for i in range(6)]
        one = self.sandbox.run(Job(["/bin/true"], files=files)).one
        self.assertEqual((one.outcome, one.code), (INTERNAL, errno.ENOSPC))


class Environment(unittest.TestCase):
    def test_state_of_a_program(self) -> None:
        with Sandbox() as sandbox:
            job = Job([PROBE, "state"], env=["A=1", "B="], address_space=1 << 30, stack=8 * MIB, processes=7, cpu=1.5)
            text = sandbox.run(job).one.stdout.decode()
            uid = sandbox.uid_base
            for line in (
                f"uid {uid} {uid} gid {uid} {uid} groups 0 sid {1 - MODE}",
                f"cwd /scratch/{uid + MODE} mode 700 owner {uid}",
                "umask 022 nnp 1",
                "signals blocked 0 changed 0",
                "fds 3",
                "oom 1000",
                "limit0 4 4",
                f"limit9 {1 << 30} {1 << 30}",
                "limit1 65537 65537",
                f"limit3 {8 * MIB} {8 * MIB}",
                # All tests of a fork server have one uid, and an attempt to fork must succeed to be seen.
                ("limit6 7 7", "limit6 9 9")[MODE],
                "limit4 0 0",
                "limit7 1024 1024",
                "limit8 0 0",
                "limit12 0 0",
                "CapEff:\t0000000000000000",
                "CapPrm:\t0000000000000000",
            ):
                self.assertIn(line + "\n", text)
            self.assertEqual([line for line in text.splitlines() if line.startswith("env ")], ["env A=1", "env B="])

    def test_oom_kill(self) -> None:
        with cgroup(100 * MIB) as path, Sandbox(cgroup=path) as sandbox:
            one = sandbox.probe("touch", 200, memory=1 << 30).one
            self.assertEqual((one.outcome, one.code, one.flags), (MEMORY, signal.SIGKILL, 4))
            report = sandbox.probe("exit", 0)
            self.assertEqual((report.one.outcome, report.one.flags, report.clean), (EXITED, 0, True))
            # What a program writes to memory file systems is on the container's bill, and gone with it.
            one = sandbox.probe("shm-file", "/dev/shm/fill", 200, memory=1 << 30, file_bytes=1 << 30).one
            # Now and then the kernel refuses the write (ENOMEM) instead of killing the writer.
            self.assertIn((one.outcome, one.code, one.flags), {(MEMORY, signal.SIGKILL, 4), (EXITED, 1, 0)})
            self.assertTrue(sandbox.probe("touch", 20).clean)


if __name__ == "__main__":
    unittest.main()
