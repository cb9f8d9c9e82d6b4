"""Files that stay in the container: found again by later jobs, out of reach of all others, and verified."""

from __future__ import annotations

import errno
import os
import struct
import unittest
from pathlib import Path

from harness import CANCEL, EXITED, INTERNAL, MIB, NEEDED, PROBE, PROGRAMS, Job, Report, Sandbox, frame, keep, kept

COUNT, BYTES = 24, 32 * MIB
#: With this uid, so that a file is its name, mode, owner, links and content.
SHOW = "for f in $(find /box -type f 2>/dev/null | sort); do stat -c '%n %a %u %h' $f; cat $f; echo; done"


def show(sandbox: Sandbox, *frames: bytes) -> Report:
    """What a program sees in /box after these frames."""
    return sandbox.run(Job(["sh", "-c", SHOW], kept=list(frames)))


def directory(sandbox: Sandbox) -> Path:
    """Where the files are kept."""
    return Path(f"/proc/{sandbox.pid}/root/box/.kept")


class Kept(unittest.TestCase):
    def test_a_program_is_sent_once(self) -> None:
        program = Path(PROGRAMS / Path(PROBE).name).read_bytes()
        with Sandbox() as sandbox:
            for frames in ([keep(7, "main", program)], [kept(7, "main")], [kept(7, "sub/main")], [kept(7, "main")]):
                name = "/box/sub/main" if b"sub/main" in frames[0][:40] else "/box/main"
                report = sandbox.run(Job([name, "cat"], inputs=[b"a", b"b", b"c"], kept=frames))
                self.assertEqual([result.stdout for result in report.results], [b"a", b"b", b"c"])
                self.assertEqual((report.clean, report.needed), (True, []), report.why)

    def test_it_comes_with_content_and_mode(self) -> None:
        with Sandbox() as sandbox:
            seen = b"/box/a 640 0 2\n\n/box/b 755 0 2\nyes\n"
            self.assertEqual(show(sandbox, keep(1, "a", b"no", 0o640), keep(2, "b", b"yes")).one.stdout, seen)
            self.assertEqual(show(sandbox, kept(2, "d/e")).one.stdout, b"/box/d/e 755 0 2\nyes\n")
            self.assertEqual(show(sandbox, kept(2, "x"), kept(2, "y")).one.stdout.count(b"755 0 3\nyes"), 2)
            self.assertEqual(show(sandbox).one.stdout, b"")

    def test_what_is_not_there_is_asked_for(self) -> None:
        with Sandbox() as sandbox:
            sandbox.stock = {1: keep(1, "a", b"one"), 2: keep(2, "b", b"two")}
            report = show(sandbox, kept(1, "a"), kept(2, "b"))
            self.assertEqual(report.needed, [1, 2])
            self.assertEqual(report.order[:2], [NEEDED, NEEDED])
            self.assertEqual(report.one.stdout.split(b"\n")[1::2], [b"one", b"two"])
            self.assertEqual(show(sandbox, kept(1, "a")).needed, [])

    def test_an_id_names_what_was_sent_last(self) -> None:
        with Sandbox() as sandbox:
            show(sandbox, keep(1, "a", b"old"), keep(1, "b", b"new"))
            report = show(sandbox, kept(1, "a"))
            self.assertEqual((report.needed, report.one.stdout), ([], b"/box/a 755 0 2\nnew\n"))

    def test_the_one_used_longest_ago_makes_room(self) -> None:
        with Sandbox() as sandbox:
            for number in range(COUNT):
                show(sandbox, keep(number, "f", b"%d" % number))
            show(sandbox, kept(0, "f"))
            show(sandbox, keep(99, "f", b"99"))
            sandbox.stock = {1: keep(1, "g", b"1")}
            self.assertEqual(show(sandbox, kept(0, "f"), kept(2, "h"), kept(1, "g")).needed, [1])
            self.assertEqual(len(list(directory(sandbox).iterdir())), COUNT)

    def test_all_together_are_bounded(self) -> None:
        with Sandbox() as sandbox:
            show(sandbox, keep(1, "a", b"1"))
            for number in (2, 3):
                job = Job(["true"], kept=[keep(number, "f", bytes(BYTES - 1))])
                self.assertTrue(sandbox.run(job).clean)
            self.assertEqual([path.name for path in directory(sandbox).iterdir()], [f"{3:016x}"])
            report = sandbox.run(Job(["wc", "-c", "/box/f"], kept=[keep(4, "f", bytes(BYTES + 1))]))
            self.assertEqual(report.one.stdout, b"%d /box/f\n" % (BYTES + 1))
            self.assertEqual([path.name for path in directory(sandbox).iterdir()], [f"{3:016x}"])

    def test_a_name_that_is_taken_is_our_fault(self) -> None:
        for frames in ([keep(1, "a", b"x"), keep(2, "a", b"y")], [keep(1, "a", b"x"), kept(1, "a")]):
            with Sandbox() as sandbox:
                report = sandbox.run(Job(["true"], kept=frames))
                self.assertEqual((report.one.outcome, report.one.code), (INTERNAL, errno.EEXIST))
                self.assertTrue(report.clean, report.why)
                self.assertEqual(show(sandbox, keep(1, "a", b"x")).one.outcome, EXITED)

    def test_the_directory_is_nobody_elses(self) -> None:
        with Sandbox() as sandbox:
            show(sandbox, keep(1, "a", b"x"))
            for job in (
                Job(["true"], files=[(".kept/b", 0o644, b"x")]),
                Job(["true"], files=[(".kept", 0o644, b"x")]),
                Job(["true"], kept=[keep(2, ".kept/b", b"x")]),
                Job(["true"], kept=[kept(1, ".kept/b")]),
            ):
                report = sandbox.run(job)
                self.assertEqual((report.one.outcome, report.one.code), (INTERNAL, errno.EEXIST))
                self.assertTrue(report.clean, report.why)

    def test_a_program_reaches_none_but_its_own(self) -> None:
        mine = ["true > F", "true >> F", "rm -f F", "mv F /tmp/x", "ln F /tmp/x", "ln F F.x", "chmod 777 F", "touch F"]
        mine += ["chown $(id -u) F", "truncate -s 0 F", "ln F /scratch/x", "ln F /box/.kept/x"]
        others = ["ls F", "cat F", "cat F/*", "cd F", "mkdir F/d", "exec F", "stat F/0000000000000001"]
        targets = ["/box/mine", "/box/.kept/0000000000000001", "/box/.kept"]
        tries = [(target, command) for target in targets for command in mine]
        tries += [(target, command) for target in targets[1:] for command in others]
        lines = [f"({command.replace('F', target)}) && echo '{command} {target}'" for target, command in tries]
        script = "exec 2>/dev/null\n" + "\n".join(lines) + "\nexit 0"
        with Sandbox() as sandbox:
            show(sandbox, keep(1, "a", b"secret"))
            report = sandbox.run(Job(["sh", "-c", script], kept=[keep(2, "mine", b"own")]))
            self.assertEqual((report.one.stdout, report.one.code, report.clean), (b"", 0, True), report.why)
            seen = show(sandbox, kept(1, "a"), kept(2, "b")).one.stdout
            self.assertEqual(seen, b"/box/a 755 0 2\nsecret\n/box/b 755 0 2\nown\n")

    def test_what_was_changed_is_found(self) -> None:
        def changed(name: str) -> str:
            with Sandbox() as sandbox:
                show(sandbox, keep(1, "a", b"content"))
                place, path = directory(sandbox), directory(sandbox) / f"{1:016x}"
                if name == "written":
                    path.write_bytes(b"other content")
                elif name == "touched":
                    os.utime(path, (1, 1))
                elif name == "replaced":
                    path.unlink()
                    path.write_bytes(b"content")
                elif name == "gone":
                    path.unlink()
                elif name == "linked":
                    (place / "x").hardlink_to(path)
                elif name == "added":
                    (place / "x").write_bytes(b"")
                elif name == "mode":
                    path.chmod(0o777)
                else:
                    place.chmod(0o755)
                report = sandbox.run(Job(["true"]))
                self.assertEqual(report.clean, False, name)
                return report.why

        for name in ("written", "touched", "replaced", "gone", "linked", "added", "mode", "open"):
            self.assertEqual(changed(name), "kept files are not as they were placed", name)

    def test_a_cancelled_job_waits_for_its_files(self) -> None:
        with Sandbox() as sandbox:
            sandbox.stock = {1: keep(1, "a", b"x")}
            job = Job(["true"], inputs=[b""] * 2, kept=[kept(1, "a")])
            sandbox.send(job.frames() + frame(CANCEL, struct.pack("<II", 1, 0)))
            report = sandbox.finish()
            self.assertEqual((len(report.results), report.needed, report.clean), (2, [1], True))
            self.assertEqual(show(sandbox, kept(1, "a")).needed, [])


if __name__ == "__main__":
    unittest.main()
