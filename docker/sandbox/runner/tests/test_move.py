"""From stdin and stdout to a socket: the same frames, the same end, and nothing that a program could find."""

from __future__ import annotations

import os
import socket
import stat
import time
import unittest
from pathlib import Path

from harness import FATAL, MIB, MOVE, MOVED, PING, PONG, PROBE, TOKEN, Job, Sandbox, frame


class Moving(unittest.TestCase):
    def test_jobs_over_the_socket(self) -> None:
        with Sandbox() as sandbox:
            sandbox.move()
            report = sandbox.run(Job([PROBE, "cat"], inputs=[b"a", b"b" * (4 * MIB)], output=8 * MIB))
            self.assertEqual([len(result.stdout) for result in report.results], [1, 4 * MIB])
            self.assertTrue(report.clean)
            self.assertEqual(sandbox.probe("exit", 3).one.code, 3)

    def test_after_a_job(self) -> None:
        with Sandbox() as sandbox:
            self.assertEqual(sandbox.probe("exit", 0).one.code, 0)
            sandbox.move()
            self.assertEqual(sandbox.probe("exit", 0).one.code, 0)

    def test_the_socket_is_the_lease(self) -> None:
        sandbox = Sandbox()
        sandbox.move()
        sandbox.send(Job([PROBE, "daemon", "/tmp/x"], inputs=[b""] * 2).frames())
        time.sleep(0.03)
        start = time.monotonic()
        # Which end is seen first, that of reading or that of writing, is the kernel's choice.
        self.assertIn(sandbox.close(), (0, 4))
        self.assertLess(time.monotonic() - start, 2)

    def test_descriptors(self) -> None:
        """The socket in the place of stdin and stdout, once, and not for those who come by exec."""
        with Sandbox() as sandbox:
            sandbox.move()
            sandbox.send(frame(PING))
            self.assertEqual(sandbox.read(), (PONG, b""))
            mine = Path(f"/proc/{sandbox.pid}/fd")
            sockets = [fd.name for fd in mine.iterdir() if str(fd.readlink()).startswith("socket:")]
            self.assertEqual(sorted(sockets), ["0", "1"])
            for fd in sockets:
                flags = (mine.parent / "fdinfo" / fd).read_text().split("flags:")[1].split()[0]
                self.assertTrue(int(flags, 8) & os.O_CLOEXEC)

    def test_nobody_there(self) -> None:
        for leave in (False, True):
            with self.subTest(socket_is_there=leave), Sandbox() as sandbox:
                if leave:
                    sandbox.listen().close()
                sandbox.send(frame(MOVE, TOKEN))
                kind, why = sandbox.read()
                self.assertEqual(kind, MOVED)
                self.assertIn(why, (b"No such file or directory", b"Connection refused"))
                self.assertEqual(sandbox.probe("exit", 3).one.code, 3)

    def test_nothing_handed_over(self) -> None:
        for sent in (b"", b"x"):
            with self.subTest(sent=sent), Sandbox() as sandbox:
                with sandbox.listen() as listener:
                    sandbox.send(frame(MOVE, TOKEN))
                    connection, _ = listener.accept()
                    with connection:
                        self.assertEqual(connection.recv(100), TOKEN)
                        connection.sendall(sent)
                self.assertEqual(sandbox.read(), (MOVED, b"Connection refused"))
                self.assertEqual(sandbox.probe("exit", 3).one.code, 3)

    def test_a_worker_that_takes_its_time(self) -> None:
        with Sandbox() as sandbox:
            with sandbox.listen():
                sandbox.send(frame(MOVE, TOKEN))
                self.assertEqual(sandbox.read(), (MOVED, b"Connection timed out"))
            self.assertEqual(sandbox.probe("exit", 3).one.code, 3)

    def test_what_is_no_socket(self) -> None:
        """Nonsense ends the runner; descriptors beyond the first are not even taken."""
        sandbox = Sandbox()
        with sandbox.listen() as listener, open(os.devnull) as file:  # noqa: PTH123
            sandbox.send(frame(MOVE, TOKEN))
            connection, _ = listener.accept()
            with connection:
                # Who has gone before the token came is a broken pipe.
                self.assertEqual(connection.recv(100), TOKEN)
                socket.send_fds(connection, [b"x"], [file.fileno()] * 3)
        self.assertEqual(sandbox.read(), (MOVED, b""))
        self.assertEqual(sandbox.read()[0], FATAL)
        self.assertEqual(sandbox.close(), 2)

    def test_twice(self) -> None:
        sandbox = Sandbox()
        sandbox.move()
        sandbox.send(frame(MOVE, TOKEN))
        self.assertEqual(sandbox.read()[0], FATAL)
        self.assertEqual(sandbox.close(), 2)

    def test_again_after_it_failed(self) -> None:
        with Sandbox() as sandbox:
            sandbox.send(frame(MOVE, TOKEN))
            self.assertTrue(sandbox.read()[1])
            sandbox.move()
            sandbox.send(frame(PING))
            self.assertEqual(sandbox.read(), (PONG, b""))

    def test_a_folder_of_another_user(self) -> None:
        """The worker's, which is not root: the runner passes by its capability."""
        with Sandbox() as sandbox:
            os.chown(sandbox.sockets, 6066, 6066)
            self.assertEqual(stat.S_IMODE(sandbox.sockets.stat().st_mode), 0o700)
            sandbox.move()
            self.assertEqual(sandbox.probe("exit", 3).one.code, 3)


if __name__ == "__main__":
    unittest.main()
