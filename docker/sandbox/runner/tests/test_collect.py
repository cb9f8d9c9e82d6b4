"""Copy-out: regular files only, everything or nothing."""

from __future__ import annotations

import unittest

from harness import COLLECT_FAILED, COLLECTED, DONE, MIB, PROBE, RESULT, Job, Report, Sandbox


class Collect(unittest.TestCase):
    sandbox: Sandbox

    @classmethod
    def setUpClass(cls) -> None:
        cls.sandbox = Sandbox()

    @classmethod
    def tearDownClass(cls) -> None:
        assert cls.sandbox.close() == 0

    def collect(self, *paths: str | bytes, most: int = 64 * MIB) -> Report:
        report = self.sandbox.run(Job([PROBE, "artifacts"], collect=list(paths), collect_max=most, file_bytes=64 * MIB))
        self.assertEqual(report.one.code, 0)
        self.assertTrue(report.clean, report.why)
        return report

    def test_file(self) -> None:
        report = self.collect("plain")
        self.assertEqual(report.collected, {b"plain": (0o755, b"plain content")})
        self.assertEqual(report.order, [RESULT, COLLECTED, DONE])

    def test_tree(self) -> None:
        expected = {
            b"tree/one.class": (0, b"one"),
            b"tree/deep/two.class": (0o644, b"two"),
            b"tree/deep/empty": (0o644, b""),
        }
        expected[b"tree/deep/two.class"] = (0o644, b"")
        self.assertEqual(self.collect("tree/").collected, expected)
        self.assertEqual(
            set(self.collect("tree/deep/", "plain").collected), {b"tree/deep/two.class", b"tree/deep/empty", b"plain"}
        )
        self.assertEqual(set(self.collect("tree/deep/empty").collected), {b"tree/deep/empty"})

    def test_refusals(self) -> None:
        for path, why in (
            ("link", "symbolic link"),
            ("fifo", "not a regular file"),
            ("hard", "more than one link"),
            ("tree", "not a regular file"),
            ("plain/", "not a directory"),
            ("treelink/", "symbolic link"),
            ("treelink/one.class", "Not a directory"),
            ("linked/", "symbolic link"),
            ("none", "No such file"),
            ("none/none", "No such file"),
            ("many/", "too many files"),
            ("down/", "too deep"),
        ):
            report = self.collect("plain", path)
            self.assertIn(why, report.failed or "", path)
            self.assertEqual(report.order, [RESULT, COLLECT_FAILED, DONE])

    def test_size(self) -> None:
        self.assertEqual(len(self.collect("huge", most=MIB).collected[b"huge"][1]), MIB)
        self.assertIn("too large", self.collect("huge", most=MIB - 1).failed or "")
        self.assertIn("too large", self.collect("plain", "huge", most=MIB).failed or "")

    def test_largest_file(self) -> None:
        script = f"{PROBE} output 1 {60 * MIB} > big"
        report = self.sandbox.run(Job(["sh", "-c", script], collect=["big"], file_bytes=64 * MIB))
        self.assertEqual(len(report.collected[b"big"][1]), 60 * MIB)
        script = "truncate -s 1G big"
        report = self.sandbox.run(Job(["sh", "-c", script], collect=["big"], file_bytes=2**40, collect_max=2**40))
        self.assertIn("too large", report.failed or "")

    def test_only_after_success(self) -> None:
        report = self.sandbox.run(Job(["sh", "-c", "echo x > x; exit 1"], collect=["x"]))
        self.assertEqual((report.one.code, report.order), (1, [RESULT, DONE]))

    def test_child_that_would_swap_files_is_dead(self) -> None:
        swap = "while :; do ln -sf /etc/passwd y; mv -T y x; done"
        script = f"echo good > x; ({swap}) & sleep 0.1; rm -f x; echo good > x; exit 0"
        report = self.sandbox.run(Job(["sh", "-c", script], collect=["x"]))
        self.assertTrue(report.failed is not None or report.collected[b"x"][1] == b"good\n", report)
        self.assertTrue(report.clean)


if __name__ == "__main__":
    unittest.main()
