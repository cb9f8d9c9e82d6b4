"""Frames: nonsense ends the runner with FATAL, silence and end of file end it and all that runs."""

from __future__ import annotations

import random
import struct
import time
import unittest
from pathlib import Path

from harness import (
    CANCEL,
    FATAL,
    FILE,
    INPUT,
    JOB,
    KEEP,
    KEPT,
    MOVE,
    PARALLEL,
    PING,
    PONG,
    PROBE,
    TOKEN,
    Job,
    Sandbox,
    frame,
    keep,
    kept,
    str16,
)

EMPTY = Job(["/bin/true"])


def changed(**options: object) -> bytes:
    """A job that differs from a good one in this."""
    return Job(["/bin/true"], **options).frames()  # type: ignore[arg-type]


def raw_job(argc: int = 1, tail: bytes = b"", **numbers: int) -> bytes:
    """A JOB with fields that the Job class would not produce."""
    values = {"mode": 0, "flags": 0, "runs": 1, "files": 0, "parallel": 1, "cpu": 10**9} | numbers
    head = struct.pack("<IBBHHHH", 1, *(values[k] for k in ("mode", "flags", "runs", "files", "parallel")), 0)
    head += struct.pack("<QQQQQQQIQ", values["cpu"], 10**9, 1 << 28, 0, 1000, 1001, 0, 16, 0)
    return frame(JOB, head + struct.pack("<H", argc) + str16("/bin/true") + struct.pack("<HH", 0, 0) + tail)


MALFORMED = {
    "no type": struct.pack("<I", 0),
    "too long": struct.pack("<IB", (64 << 20) + 1, FILE),
    "unknown type": frame(0x7F, b"x"),
    "runner's own type": frame(0x82, b"x" * 50),
    "short job": frame(JOB, b"x" * 20),
    "empty job": frame(JOB),
    "giant job": struct.pack("<IB", 1 << 20, JOB),
    "job with a tail": raw_job(tail=b"x"),
    "job with too many strings": raw_job(argc=65535),
    "job with lying count": raw_job(argc=3),
    "job without runs": raw_job(runs=0),
    "job with too many runs": raw_job(runs=65535),
    "job with unknown mode": raw_job(mode=3),
    "job with unknown flag": raw_job(flags=2),
    "job with endless time": raw_job(cpu=1 << 63),
    "nul in argv": Job(["/bin/true", "a\0b"]).frames(),
    "too much output": changed(output=(31 << 20) + 1),
    "collect from two runs": changed(inputs=[b"", b""], collect=["x"]),
    "collect upwards": changed(collect=["../x"]),
    "collect absolute": changed(collect=["/etc/passwd"]),
    "collect nothing": changed(collect=[""]),
    "collect the cwd": changed(collect=["/"]),
    "collect a dot": changed(collect=["./x"]),
    "file without a job": frame(FILE, struct.pack("<I", 0) + str16("x")),
    "file too many": EMPTY.head() + frame(FILE, struct.pack("<I", 0) + str16("x")),
    "file upwards": changed(files=[("../x", 0, b"")]),
    "file upwards inside": changed(files=[("a/../../x", 0, b"")]),
    "file absolute": changed(files=[("/etc/x", 0, b"")]),
    "file with empty part": changed(files=[("a//x", 0, b"")]),
    "file that is a directory": changed(files=[("a/", 0, b"")]),
    "file with dot": changed(files=[("./a", 0, b"")]),
    "file without a name": changed(files=[("", 0, b"")]),
    "file with nul": changed(files=[("a\0b", 0, b"")]),
    "file with a long name": changed(files=[("a" * 5000, 0, b"")]),
    "file with a lying name": raw_job(files=1) + frame(FILE, struct.pack("<IH", 0, 500) + b"x"),
    "short file": raw_job(files=1) + frame(FILE, b"x"),
    "keep without a job": keep(1, "x", b""),
    "keep too many": EMPTY.head() + keep(1, "x", b""),
    "keep upwards": changed(kept=[keep(1, "../x", b"")]),
    "keep with a lying name": raw_job(files=1) + frame(KEEP, struct.pack("<QIH", 1, 0, 500) + b"x"),
    "short keep": raw_job(files=1) + frame(KEEP, b"x" * 13),
    "kept without a job": kept(1, "x"),
    "kept too many": EMPTY.head() + kept(1, "x"),
    "kept upwards": changed(kept=[kept(1, "../x")]),
    "kept with content": changed(kept=[frame(KEPT, struct.pack("<Q", 1) + str16("x") + b"y")]),
    "kept with a lying name": raw_job(files=1) + frame(KEPT, struct.pack("<QH", 1, 500) + b"x"),
    "short kept": raw_job(files=1) + frame(KEPT, b"x" * 9),
    "input without a job": frame(INPUT, struct.pack("<I", 0)),
    "input out of range": EMPTY.head() + frame(INPUT, struct.pack("<I", 1)),
    "input twice": Job(["/bin/true"], inputs=[b"", b""]).head() + frame(INPUT, struct.pack("<I", 0)) * 2,
    "short input": EMPTY.head() + frame(INPUT, b"x"),
    "job within a job": EMPTY.head() * 2,
    "ping with content": frame(PING, b"x"),
    "short cancel": frame(CANCEL, b"x" * 7),
    "long parallel": frame(PARALLEL, b"x" * 7),
    "short move": frame(MOVE, b"x" * 15),
    "move within a job": EMPTY.head() + frame(MOVE, TOKEN),
}


class Malformed(unittest.TestCase):
    def test_fatal(self) -> None:
        for name, data in MALFORMED.items():
            with self.subTest(name):
                sandbox = Sandbox()
                sandbox.send(data)
                kind, text = sandbox.read()
                self.assertEqual(kind, FATAL)
                self.assertTrue(text.decode())
                with self.assertRaises(EOFError):
                    sandbox.read()
                self.assertEqual(sandbox.close(), 2)

    def test_noise(self) -> None:
        noise = random.Random(5)
        for _ in range(10):
            sandbox = Sandbox()
            job = Job([PROBE, "cat"], inputs=[b"a" * 50] * 3, files=[("f", 0o644, b"x" * 40)])
            job.kept = [keep(5, "g", b"y" * 40), kept(5, "h")]
            data = bytearray(job.frames())
            for _ in range(4):
                data[noise.randrange(len(data))] = noise.randrange(256)
            sandbox.send(bytes(data))
            self.assertIn(sandbox.close(), (0, 2))


class Life(unittest.TestCase):
    def test_ping(self) -> None:
        with Sandbox() as sandbox:
            sandbox.send(frame(PING) * 3)
            self.assertEqual([sandbox.read() for _ in range(3)], [(PONG, b"")] * 3)
            sandbox.send(Job([PROBE, "sleep", "300"]).frames() + frame(PING))
            self.assertEqual(sandbox.read(0.2), (PONG, b""))
            self.assertTrue(sandbox.finish().clean)

    def test_frames_in_single_bytes(self) -> None:
        with Sandbox() as sandbox:
            job = Job([PROBE, "cat"], inputs=[b"abc"], files=[("d/f", 0o644, b"x" * 40)])
            job.kept = [keep(5, "d/g", b"y" * 40), kept(5, "h")]
            for byte in job.frames():
                sandbox.send(bytes([byte]))
            self.assertEqual(sandbox.finish().one.stdout, b"abc")

    def test_frames_for_no_job_are_ignored(self) -> None:
        with Sandbox() as sandbox:
            sandbox.send(frame(CANCEL, struct.pack("<II", 1, 0)) + frame(PARALLEL, struct.pack("<IH", 1, 3)))
            self.assertEqual(sandbox.probe("exit", 0).one.code, 0)

    def test_end_of_file_kills_everything(self) -> None:
        sandbox = Sandbox()
        sandbox.send(Job([PROBE, "daemon", "/tmp/x"], inputs=[b""] * 2).frames() + Job([PROBE]).head()[:3])
        time.sleep(0.03)
        start = time.monotonic()
        self.assertEqual(sandbox.close(), 0)
        self.assertLess(time.monotonic() - start, 2)

    def test_reader_that_has_gone(self) -> None:
        sandbox = Sandbox()
        sandbox.stdout.close()
        self.assertEqual(sandbox.process.wait(5), 4)
        sandbox.close()

    def test_dead_man(self) -> None:
        sandbox = Sandbox(dead_man=1)
        start = time.monotonic()
        time.sleep(0.5)
        sandbox.send(frame(PING) + Job([PROBE, "sleep", "30000"], wall=60.0).frames())
        self.assertEqual(sandbox.process.wait(5), 3)
        self.assertAlmostEqual(time.monotonic() - start, 1.5, delta=0.3)
        sandbox.close()

    def test_it_stays_small(self) -> None:
        with Sandbox() as sandbox:
            # Large FILEs, INPUTs and outputs pass through without ever being in the runner's memory.
            job = Job(
                [PROBE, "cat"], inputs=[b"x" * (8 << 20)] * 4, files=[("f", 0o644, b"y" * (40 << 20))], output=8 << 20
            )
            report = sandbox.run(job)
            self.assertEqual([len(result.stdout) for result in report.results], [8 << 20] * 4)
            status = Path(f"/proc/{sandbox.pid}/status").read_text()
            peak = int(status.split("VmHWM:")[1].split()[0])
            if "asan" not in Path(f"/proc/{sandbox.pid}/maps").read_text():
                self.assertLess(peak, 1500)


if __name__ == "__main__":
    unittest.main()
