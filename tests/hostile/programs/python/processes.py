"""What the C programs do to processes, from Python: signals, traces, other people's files in /proc, children that stay."""

import ctypes
import os
import signal
import sys
import time

how = input()
libc = ctypes.CDLL(None, use_errno=True)


def others():
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            yield int(name)


if how == "fork-bomb":
    while True:
        try:
            os.fork()
        except OSError:
            pass
elif how == "threads":
    import threading

    while True:
        try:
            threading.Thread(target=time.sleep, args=(60,)).start()
        except RuntimeError:
            pass
elif how == "signals":
    for pid in others():
        for number in (signal.SIGTERM, signal.SIGSTOP, signal.SIGKILL):
            try:
                os.kill(pid, number)
                print("worked: kill", pid)
            except OSError:
                pass
elif how == "files":
    for pid in others():
        for name in ("mem", "environ", "maps", "fd", "root/etc", "cwd", "exe"):
            path = f"/proc/{pid}/{name}"
            for attempt in (
                os.listdir,
                os.readlink,
                lambda p: os.open(p, os.O_RDONLY),
                lambda p: os.open(p, os.O_RDWR),
            ):
                try:
                    attempt(path)
                    print("worked:", path)
                except OSError:
                    pass
elif how == "traces":
    for pid in others():
        for request in (16, 0x4206):
            if libc.ptrace(request, pid, 0, 0) == 0:
                print("worked: ptrace", pid)
elif how == "descriptors":
    for fd in range(3, 1024):
        try:
            os.fstat(fd)
            print("worked: descriptor", fd)
        except OSError:
            pass
elif how == "stay":
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            while True:
                os.makedirs("/tmp/hello", exist_ok=True)
                time.sleep(0.001)
        os._exit(0)
    time.sleep(0.05)
elif how == "privileges":
    for name, call in (("setuid", os.setuid), ("setgid", os.setgid), ("setegid", os.setegid), ("seteuid", os.seteuid)):
        try:
            call(0)
            print("worked:", name)
        except OSError:
            pass
    text = open("/proc/self/status").read()
    for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"):
        if line not in text:
            print("worked: not", line)
    if os.getgroups() or 0 in (os.getuid(), os.geteuid(), os.getgid(), os.getegid()):
        print("worked: ids")
elif how == "memory":
    keep = []
    while True:
        keep.append(bytearray(1 << 20))
elif how == "mark":
    # What the next test of the same interpreter would see if it were not a copy.
    import builtins
    import collections

    builtins.len = None
    collections.marked = sys.modules["marked"] = "worked: a module of another test"
    os.environ["MARKED"] = "1"
elif how == "look":
    import collections

    if hasattr(collections, "marked") or "marked" in sys.modules or "MARKED" in os.environ or len("ab") != 2:
        print("worked: a trace of another test")
print("end")
