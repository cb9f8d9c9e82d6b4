"""Two halves. `leave` spoils and hides what it can in its interpreter; `look` runs in the next batch and searches all of its memory.

The secret is in this source where the test puts it, in the input, and in whatever `leave` makes of it.
"""

import builtins
import ctypes
import gc
import os
import random
import re
import signal
import sys
import threading

SECRET = "%SECRET%"
how, *words = sys.stdin.read().split()
problems = []


def leave():
    text = SECRET + words[0]
    builtins.kept = [text.encode() * 50, sys.intern(text), {text: text}]
    builtins.print = sys.modules["json"] = None
    sys.path.insert(0, "/tmp")
    sys.setrecursionlimit(50)
    os.environ["KEPT"] = text
    os.umask(0)
    os.nice(10)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 60)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
    gc.unfreeze()
    gc.disable()
    random.seed(1)
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(text))
    # The very object that everybody's 200 is.
    ctypes.memset(id(200) + 24, 201, 1)
    threading.Thread(target=threading.Event().wait, daemon=True).start()
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        os.write(1, b"alone, ")
    os.write(1, b"left\n")
    os._exit(0)


def state():
    yield "builtins", hasattr(builtins, "kept") or builtins.print is None
    yield "modules", sys.modules.get("json", sys) is None
    yield "path", sys.path[0] != "/box"
    yield "recursion limit", sys.getrecursionlimit() != 1000
    yield "environment", "KEPT" in os.environ
    yield "umask", os.umask(0o22) != 0o22
    yield "priority", os.getpriority(os.PRIO_PROCESS, 0) != 0
    yield "handler", signal.getsignal(signal.SIGUSR1) != signal.SIG_DFL
    yield "timer", signal.getitimer(signal.ITIMER_REAL)[0] != 0
    yield "mask", bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    yield "collector", not gc.isenabled()
    yield "random numbers", random.random() == random.Random(1).random()
    yield "number", int("199") + 1 != int("2" + "00")
    yield "threads", len(os.listdir("/proc/self/task")) != 1


def secrets():
    # A pattern, as a copy of the secret in this process would be found.
    pattern = re.compile(rb"s3cr3t-[0-9a-f]{32}")
    with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
        for line in maps.read().splitlines():
            span, rights, *_ = line.split()
            if not rights.startswith("r") or line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                continue
            start, end = (int(part, 16) for part in span.split("-"))
            memory.seek(start)
            if found := pattern.search(memory.read(end - start)):
                yield found[0]


if how == "leave":
    leave()
print(*(name for name, spoilt in state() if spoilt), *secrets(), "end")
