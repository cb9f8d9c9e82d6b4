"""Small programs that look at what an interpreter does: they say the same whether it was started or forked.

Addresses, ids and times do not belong into what they print.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Program:
    """A source, its stdin, and how it must end if that is known beforehand; limits in MiB and seconds."""

    source: str
    stdin: bytes = b"1 2\n3 4\n"
    memory_mib: int = 256
    seconds: int = 4
    #: Far over what a busy machine needs, unless it is to be met.
    wall_seconds: int = 30
    processes: int = 16
    output: int = 16 << 20
    #: Only the outcome is compared: two starts of the interpreter differ in the rest as well.
    loose: bool = False


PROGRAMS = {
    "sum": Program("print(sum(map(int, input().split())))"),
    "empty": Program(""),
    "names": Program("print(__name__, __file__, __doc__, __package__, __spec__, __cached__, __builtins__)"),
    "loader": Program("print(type(__loader__), __loader__.name, __loader__.path)"),
    "main_keys": Program("print(list(globals()))"),
    "argv": Program(
        "import sys\nprint(sys.argv, sys.orig_argv, sys.executable, sys.path, sys.flags, sys.prefix)",
    ),
    "environment": Program(
        "import os\nprint(sorted(os.environ.items()), os.getppid(), len(os.listdir('.')))",
    ),
    "proc_environ": Program("print(open('/proc/self/environ').read().rstrip('\\0').split('\\0'))"),
    "proc_self": Program(
        "import os\n"
        "print(open('/proc/self/cmdline').read(), os.readlink('/proc/self/exe'), open('/p"
        "roc/self/comm').read())",
    ),
    "descriptors": Program(
        "import os\nprint(sorted(os.listdir('/proc/self/fd'))[:3], len(os.listdir('/proc/self/fd')))",
    ),
    "limits": Program(
        "import resource as r\n"
        "for n in 'CPU FSIZE STACK AS NPROC NOFILE CORE MEMLOCK DATA'.split():\n"
        "    print(n, r.getrlimit(getattr(r, 'RLIMIT_' + n)))",
    ),
    "identity": Program(
        "import os\n"
        "u = os.getresuid()\n"
        "print(len(set(u + os.getresgid())), os.getgroups(), os.getsid(0) == os.getpid(),"
        " os.getpgrp() == os.getpid(), os.stat('.').st_uid == u[0], oct(os.umask(0)), os."
        "getcwd() == f'/scratch/{u[0]}')",
    ),
    "capabilities": Program(
        "print([l for l in open('/proc/self/status') if l[:3] in ('Cap', 'NoN', 'Sig', 'Shd', 'Sec')])",
    ),
    "oom_score": Program("print(open('/proc/self/oom_score_adj').read())"),
    "affinity": Program(
        "import os\nprint(sorted(os.sched_getaffinity(0)))",
    ),
    "signal_mask": Program(
        "import signal\n"
        "print(signal.pthread_sigmask(signal.SIG_BLOCK, []), [(s, str(signal.getsignal(s)"
        ").split(' at ')[0]) for s in signal.valid_signals()])",
    ),
    "traceback": Program(
        "def f(n):\n    return g(n)\n\ndef g(n):\n    return 1 // n\n\nf(0)\n",
    ),
    "traceback_chain": Program(
        "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('x') from e\n",
    ),
    "traceback_stdin_error": Program("int(input())", stdin=b"abc\n"),
    "exception_group": Program("raise ExceptionGroup('g', [ValueError(1), TypeError('t')])"),
    "exception_note": Program(
        "e = ValueError('v')\ne.add_note('note')\nraise e",
    ),
    "name_error_hint": Program(
        "counter = 1\nprint(countr)",
    ),
    "attribute_hint": Program(
        "import math\nmath.sqr(2)",
    ),
    "syntax_error": Program(
        "print(1)\nx = = 2\n",
    ),
    "indentation_error": Program(
        "def f():\nreturn 1\n",
    ),
    "tab_error": Program(
        "if 1:\n\tx = 1\n        y = 2\n",
    ),
    "encoding_error": Program(
        "# -*- coding: nonsense -*-\nprint(1)\n",
    ),
    "null_byte": Program("print(1)\x00\n"),
    "syntax_warning": Program("print('\\d', 1 is 1)\n"),
    "latin1_cookie": Program(
        "# -*- coding: latin-1 -*-\nprint(ascii('é'))\n",
    ),
    "byte_order_mark": Program("\ufeffprint('bom')\n"),
    "carriage_returns": Program(
        "x = '''a\r\nb'''\r\nprint(repr(x))\r\n",
    ),
    "future": Program(
        "from __future__ import annotations\ndef f(x: Undefined): pass\nprint(f.__annotations__)\n",
    ),
    "docstring": Program(
        "'''about'''\nprint(__doc__)\n",
    ),
    "annotations": Program(
        "x: int = 1\nprint(__annotations__)\n",
    ),
    "recursion_error": Program(
        "def f(n):\n    return f(n + 1) + 1\nf(0)\n",
    ),
    "recursion_caught": Program(
        "def f():\n    f()\ntry:\n    f()\nexcept RecursionError as e:\n    print(e)\n",
    ),
    "deep_recursion": Program(
        "import sys\n"
        "sys.setrecursionlimit(10**6)\n"
        "def f(n):\n"
        "    return 0 if n == 0 else 1 + f(n - 1)\n"
        "print(f(200000))\n",
    ),
    "deep_thread": Program(
        "import sys, threading\n"
        "sys.setrecursionlimit(10**6)\n"
        "threading.stack_size(64 << 20)\n"
        "def f(n):\n"
        "    return 0 if n == 0 else 1 + f(n - 1)\n"
        "t = threading.Thread(target=lambda: print(f(50000)))\n"
        "t.start()\n"
        "t.join()\n",
    ),
    "deep_c_recursion": Program(
        "x = []\nfor _ in range(100000):\n    x = [x]\nprint(len(repr(x)))\n",
    ),
    "threads": Program(
        "import threading, time\n"
        "def f(i):\n"
        "    time.sleep(0.1 + 0.1 * i)\n"
        "    print('t', i)\n"
        "for i in range(4):\n"
        "    threading.Thread(target=f, args=(i,)).start()\n"
        "print('main ends')\n",
    ),
    "thread_error": Program(
        "import threading\nthreading.Thread(target=lambda: 1 / 0, name='w').start()\n",
    ),
    "daemon_thread": Program(
        "import threading, time\n"
        "def f():\n"
        "    while True:\n"
        "        time.sleep(0.01)\n"
        "threading.Thread(target=f, daemon=True).start()\n"
        "print('main ends')\n",
    ),
    "thread_names": Program(
        "import threading as t, os\n"
        "m = t.main_thread()\n"
        "print(m.name, t.current_thread() is m, m.native_id == os.getpid(), m.native_id ="
        "= t.get_native_id(), t.active_count())",
    ),
    "thread_pool": Program(
        "from concurrent.futures import ThreadPoolExecutor\n"
        "with ThreadPoolExecutor(4) as p:\n"
        "    print(list(p.map(abs, [-1, -2])))",
    ),
    "os_exit": Program(
        "import os\nprint('lost')\nos._exit(5)\n",
    ),
    "os_abort": Program(
        "import os\nos.abort()\n",
    ),
    "atexit": Program(
        "import atexit\n"
        "for i in range(3):\n"
        "    atexit.register(print, 'bye', i)\n"
        "@atexit.register\n"
        "def f():\n"
        "    raise ValueError('late')\n"
        "print('end')\n",
    ),
    "atexit_after_error": Program(
        "import atexit\natexit.register(print, 'bye')\n1 / 0\n",
    ),
    "atexit_file": Program(
        "import atexit\natexit.register(lambda: print(globals().get('__file__')))\n",
    ),
    "exit_none": Program(
        "import sys\nprint('a')\nsys.exit()\n",
    ),
    "exit_0": Program(
        "import sys\nsys.exit(0)\n",
    ),
    "exit_3": Program(
        "import sys\nsys.exit(3)\n",
    ),
    "exit_256": Program(
        "import sys\nsys.exit(256)\n",
    ),
    "exit_negative": Program(
        "import sys\nsys.exit(-1)\n",
    ),
    "exit_huge": Program(
        "import sys\nsys.exit(10**30)\n",
    ),
    "exit_text": Program(
        "import sys\nprint('out')\nsys.exit('why not')\n",
    ),
    "exit_tuple": Program(
        "import sys\nsys.exit((1, 'x'))\n",
    ),
    "exit_float": Program(
        "import sys\nsys.exit(1.5)\n",
    ),
    "exit_bool": Program(
        "import sys\nsys.exit(True)\n",
    ),
    "exit_builtin": Program("exit(7)\n"),
    "exit_object": Program(
        "import sys\nclass A:\n    def __str__(self):\n        raise ValueError('s')\nsys.exit(A())\n",
    ),
    "exit_no_stderr": Program(
        "import sys\nsys.stderr = None\nsys.exit('text')\n",
    ),
    "exit_in_thread": Program(
        "import threading, sys\nthreading.Thread(target=lambda: sys.exit(9)).start()\n",
    ),
    "exit_finally": Program(
        "import sys\ntry:\n    sys.exit(2)\nfinally:\n    print('finally')\n",
    ),
    "exit_subclass": Program(
        "class E(SystemExit):\n    code = 12\nraise E\n",
    ),
    "keyboard_interrupt": Program("raise KeyboardInterrupt\n"),
    "sigint_self": Program(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n",
    ),
    "input_eof": Program(
        "input()\ninput()\ninput()\n",
    ),
    "input_all": Program(
        "import sys\nfor line in sys.stdin:\n    print(repr(line))\nprint(repr(sys.stdin.read()))\n",
    ),
    "input_buffer": Program(
        "import sys\nprint(sys.stdin.buffer.read(3), sys.stdin.buffer.readline(), sys.stdin.buffer.read())",
    ),
    "input_mixed": Program(
        "import sys, os\nprint(input(), sys.stdin.readline(), os.read(0, 100))",
    ),
    "input_prompt": Program("print(input('prompt> '))"),
    "input_open0": Program("print(open(0).read().split())"),
    "input_dev": Program("print(open('/dev/stdin').read().split())"),
    "input_large": Program(
        "import sys\nprint(sum(map(int, sys.stdin.read().split())))",
        stdin=b"123456 " * 500_000,
    ),
    "input_bad_utf8": Program("print(input())", stdin=b"\xff\xfe\n"),
    "input_seek": Program(
        "import sys\nsys.stdin.read()\nsys.stdin.seek(0)\nprint(sys.stdin.read().split())",
    ),
    "output_large": Program(
        "import sys\nfor i in range(1000):\n    print('x' * 8191)\n",
    ),
    "output_bytes": Program(
        "import sys\nsys.stdout.buffer.write(bytes(range(256)))\nprint('after')",
    ),
    "output_order": Program(
        "import sys, os\n"
        "print('a')\n"
        "print('b', file=sys.stderr)\n"
        "os.write(1, b'raw\\n')\n"
        "print('c', end='')\n"
        "sys.stderr.write('d')",
    ),
    "output_dev": Program(
        "print('before', flush=True)\nopen('/dev/stdout', 'w').write('dev\\n')\nprint('after')",
    ),
    "output_closed": Program(
        "import sys\nprint('x')\nsys.stdout.close()\n",
    ),
    "output_fd_closed": Program(
        "import os\nprint('x')\nos.close(1)\n",
    ),
    "output_replaced": Program(
        "import sys, io\nsys.stdout = io.StringIO()\nprint('lost')\n",
    ),
    "output_detached": Program(
        "import sys\nf = sys.stdout.detach()\nf.write(b'x')\n",
    ),
    "output_surrogate": Program("print('\\udc80')"),
    "output_stream_names": Program(
        "import sys\n"
        "for f in (sys.stdin, sys.stdout, sys.stderr):\n"
        "    print(f.name, f.mode, f.encoding, f.errors, f.line_buffering, f.write_throug"
        "h, f.isatty(), f.seekable(), f.fileno(), f.buffer.raw.mode, f.newlines)",
    ),
    "output_flood": Program(
        "while True:\n    print('x' * 1000)\n",
        output=100000,
        loose=True,
    ),
    "unclosed_file": Program(
        "import subprocess, atexit, os\n"
        "f = open('a.txt', 'w')\n"
        "f.write('kept')\n"
        "def g():\n"
        "    return f\n"
        "pid = os.fork()\n"
        "if pid:\n"
        "    os.waitpid(pid, 0)\n"
        "    print(repr(open('a.txt').read()))\n",
    ),
    "broken_pipe": Program(
        "import os, sys\nr, w = os.pipe()\nos.close(r)\nos.dup2(w, 1)\nprint('x')\n",
    ),
    "del_at_exit": Program(
        "import sys\n"
        "class A:\n"
        "    def __init__(self, n):\n"
        "        self.n = n\n"
        "    def __del__(self):\n"
        "        print('del', self.n, sys.is_finalizing())\n"
        "a = A('global')\n"
        "b = A('cycle')\n"
        "b.b = b\n"
        "def f():\n"
        "    return a\n",
    ),
    "generator_at_exit": Program(
        "def g():\n    try:\n        yield 1\n    finally:\n        print('closed')\nx = g()\nnext(x)\n",
    ),
    "weakref_finalize": Program(
        "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'finalized')\n",
    ),
    "multiprocessing_pool": Program(
        "import multiprocessing as m\n"
        "def f(x):\n"
        "    return x * x\n"
        "if __name__ == '__main__':\n"
        "    with m.Pool(2) as p:\n"
        "        print(p.map(f, range(5)))\n",
    ),
    "multiprocessing_process": Program(
        "import multiprocessing as m\n"
        "def f(q):\n"
        "    q.put('child')\n"
        "if __name__ == '__main__':\n"
        "    q = m.Queue()\n"
        "    p = m.Process(target=f, args=(q,))\n"
        "    p.start()\n"
        "    print(q.get())\n"
        "    p.join()\n"
        "    print(p.exitcode)\n",
    ),
    "multiprocessing_spawn": Program(
        "import multiprocessing as m\n"
        "def f(x):\n"
        "    return x + 1\n"
        "if __name__ == '__main__':\n"
        "    c = m.get_context('spawn')\n"
        "    with c.Pool(1) as p:\n"
        "        print(p.map(f, [1, 2]))\n",
    ),
    "fork": Program(
        "import os\n"
        "print('once', flush=True)\n"
        "pid = os.fork()\n"
        "if pid == 0:\n"
        "    print('child')\n"
        "else:\n"
        "    os.wait()\n"
        "    print('parent')",
    ),
    "subprocess": Program(
        "import subprocess, sys\n"
        "print(subprocess.run([sys.executable, '-c', 'print(6 * 7)'], capture_output=True"
        ", text=True).stdout)",
    ),
    "fork_refused": Program(
        "import os\nfor _ in range(9):\n    if os.fork() == 0:\n        import time\n        time.sleep(1)\n",
        processes=4,
    ),
    "signal_handler": Program(
        "import os, signal\n"
        "signal.signal(signal.SIGUSR1, lambda n, f: print('got', n))\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print('on')",
    ),
    "signal_alarm": Program(
        "import signal, time\nsignal.alarm(1)\ntime.sleep(5)\n",
    ),
    "signal_death": Program(
        "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\n",
    ),
    "clocks": Program(
        "import time, resource\n"
        "u = resource.getrusage(resource.RUSAGE_SELF)\n"
        "print(time.process_time() < 0.5, u.ru_utime + u.ru_stime < 0.5, time.thread_time() < 0.5)",
    ),
    "random_seeded": Program(
        "import random\nrandom.seed(5)\nprint(random.random(), random.randrange(1000), random.choice('abc'))",
    ),
    "hashes": Program("print(hash(12345), hash(1.5), hash((1, 2)), hash(None) == hash(None))"),
    "numbers": Program(
        "from decimal import *\n"
        "from fractions import Fraction\n"
        "getcontext().prec = 40\n"
        "print(Decimal(1) / 7, Fraction(1, 3) + 1, 2**200)",
    ),
    "int_digits": Program("print(len(str(10**5000)))"),
    "asyncio": Program(
        "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nprint(asyncio.run(f()))",
    ),
    "asyncio_error": Program(
        "import asyncio\nasync def f():\n    raise ValueError('x')\nasyncio.run(f())",
    ),
    "dataclass_pickle": Program(
        "import pickle\n"
        "from dataclasses import dataclass\n"
        "@dataclass\n"
        "class P:\n"
        "    x: int\n"
        "print(pickle.loads(pickle.dumps(P(3))), P.__module__)",
    ),
    "type_hints": Program(
        "import typing\n"
        "class A:\n"
        "    x: 'int'\n"
        "def f(a: A) -> 'A': ...\n"
        "print(typing.get_type_hints(A), typing.get_type_hints(f))",
    ),
    "get_source": Program(
        "import inspect\ndef f():\n    return 1\nprint(inspect.getsource(f), inspect.getsourcefile(f))",
    ),
    "import_main": Program(
        "x = 5\nimport __main__, sys\nprint(__main__.x, sys.modules['__main__'] is __main__)",
    ),
    "import_main_file": Program(
        "if __name__ == '__main__':\n    import main\nelse:\n    print('imported as', __name__)\n",
    ),
    "import_missing": Program("import numpy\n"),
    "import_many": Program(
        "import bisect, calendar, cmath, collections, copy, csv, datetime, enum, functool"
        "s, hashlib, heapq, io, itertools, json, math, operator, os, pprint, queue, rando"
        "m, re, secrets, statistics, string, struct, sys, textwrap, time, typing, uuid, zlib\n"
        "print('ok')",
    ),
    "deprecation_warning": Program(
        "import warnings\nwarnings.warn('old', DeprecationWarning)\nwarnings.warn('user')\nprint('on')",
    ),
    "warning_filters": Program(
        "import warnings\nprint(warnings.filters)",
    ),
    "gc_state": Program(
        "import gc\nprint(gc.isenabled(), gc.get_threshold(), gc.garbage)",
    ),
    "gc_garbage": Program(
        "class A:\n    pass\nfor _ in range(20000):\n    a = A()\n    a.a = a\nprint('ok')",
    ),
    "segfault": Program(
        "import ctypes\nctypes.string_at(0)\n",
    ),
    "c_stdio": Program(
        "import ctypes\nctypes.CDLL(None).printf(b'from c\\n')\nprint('from python')",
    ),
    "faulthandler": Program(
        "import faulthandler, ctypes\nfaulthandler.enable()\nctypes.string_at(0)\n",
        loose=True,
    ),
    "memory_error": Program("x = bytearray(3 << 30)\n"),
    "memory_hog": Program(
        "x = []\nwhile True:\n    x.append(bytearray(1 << 20))\n",
        loose=True,
    ),
    "memory_deep": Program("x = [0] * (200 << 20)\n", memory_mib=64, loose=True),
    "time_loop": Program(
        "while True:\n    pass\n",
        seconds=1,
        loose=True,
    ),
    "time_sleep": Program(
        "import time\ntime.sleep(20)\n",
        wall_seconds=1,
        loose=True,
    ),
    "parser_bomb": Program(
        "x = (((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("
        "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("
        "(((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((((("
        "(((((((((((((())))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))"
        "))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))"
        "))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))))"
        "))))))))))))))))))))))))",
    ),
    "sys_hooks": Program(
        "import sys\nsys.excepthook = lambda t, v, b: print('hook', v)\nraise ValueError('x')\n",
    ),
    "unraisable": Program(
        "def g():\n"
        "    try:\n"
        "        yield\n"
        "    finally:\n"
        "        raise ValueError('x')\n"
        "x = g()\n"
        "next(x)\n"
        "del x\n"
        "print('on')",
    ),
    "locale": Program(
        "import locale, sys\n"
        "print(locale.setlocale(locale.LC_ALL), sys.getfilesystemencoding(), sys.getdefaultencoding())",
    ),
    "stat_streams": Program(
        "import os\n"
        "for i in range(3):\n"
        "    s = os.fstat(i)\n"
        "    print(oct(s.st_mode), s.st_size, s.st_nlink, s.st_blksize, os.lseek(i, 0, 1))",
    ),
    "write_cwd": Program(
        "open('x', 'w').write('1')\nimport os\nprint(os.listdir())",
    ),
    "write_box": Program("open('/box/x', 'w')\n"),
    "modules_of_main": Program(
        "import sys\nprint([n for n in sys.modules if n in ('site', 'encodings', 'runpy', 'idlelib')])",
    ),
}
