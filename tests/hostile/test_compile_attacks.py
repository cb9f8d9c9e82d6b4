"""Sources that attack the compiler. Nothing of theirs ever runs in a compile: bombs and files are all they have."""

from __future__ import annotations

import pytest
from proving_ground import ProvingGround, compile_output, ground

from evalx.verdicts import Verdict

__all__ = ["ground"]

MAIN = "\nint main(void) { return 0; }\n"
DENIED = "Permission denied"
MEMORY, CPU_TIME, OUTPUT = (
    f"evalx: the compiler was stopped, it exceeded its {what} limit" for what in ("memory", "CPU time", "output")
)
FILE_SIZE = "File size limit exceeded"
#: What eats both: a fast machine comes to the limit of memory first, a slow one to that of CPU time.
EITHER = (MEMORY, CPU_TIME)


def asm(*lines: str) -> str:
    """A program with these lines for the assembler."""
    text = "\\n".join(lines).replace('"', '\\"')
    return f'__asm__("{text}");{MAIN}'


#: Files that the compiler is told to read: the source, and what it says.
READS = {
    "#include /dev/zero": ('#include "/dev/zero"' + MAIN, MEMORY),
    "#include /dev/full": ('#include "/dev/full"' + MAIN, MEMORY),
    "#include /dev/urandom": ('#include "/dev/urandom"' + MAIN, MEMORY),
    "#include /dev/tty": ('#include "/dev/tty"' + MAIN, "No such device"),
    # Nobody would type on it: the compile would hold its place, without using CPU time, up to the wall limit.
    "#include /dev/ptmx": ('#include "/dev/ptmx"' + MAIN, DENIED),
    "#include /dev/pts/ptmx": ('#include "/dev/pts/ptmx"' + MAIN, DENIED),
    ".include /dev/ptmx": (asm('.include "/dev/ptmx"'), "can't open"),
    ".incbin /dev/ptmx": (asm('.incbin "/dev/ptmx"'), "file not found"),
    "#include /proc/1/environ": ('#include "/proc/1/environ"' + MAIN, DENIED),
    "#include /proc/1/mem": ('#include "/proc/1/mem"' + MAIN, DENIED),
    "#include /proc/1/fd/0": ('#include "/proc/1/fd/0"' + MAIN, DENIED),
    "#include /proc/1/root": ('#include "/proc/1/root/etc/passwd"' + MAIN, DENIED),
    "#include /proc/kmsg": ('#include "/proc/kmsg"' + MAIN, DENIED),
    "#include /etc/shadow": ('#include "/etc/shadow"' + MAIN, DENIED),
    "#include of a box": ('#include "/box/main"' + MAIN, "No such file"),
    "#include of a directory": ('#include "/box"' + MAIN, "No such file"),
    ".incbin /etc/shadow": (asm('.incbin "/etc/shadow"'), "file not found"),
    ".incbin /proc/1/exe": (asm('.incbin "/proc/1/exe"'), "file not found"),
    ".incbin of a box": (asm('.incbin "/box/main"'), "file not found"),
    ".incbin /dev/zero": (asm('.incbin "/dev/zero"'), "unable to include"),
    ".include /etc/shadow": (asm('.include "/etc/shadow"'), "can't open"),
    ".include /dev/zero": (asm('.include "/dev/zero"'), MEMORY),
    "#embed /etc/shadow": ('char a[] = {\n#embed "/etc/shadow"\n};' + MAIN, "invalid preprocessing directive"),
    "#embed /dev/zero": ('char a[] = {\n#embed "/dev/zero"\n};' + MAIN, "invalid preprocessing directive"),
}

DOUBLING = "".join(f"#define M{i} M{i - 1} M{i - 1} M{i - 1} M{i - 1}\n" for i in range(1, 20))
#: Small sources that become large.
BOMBS = {
    "2^26 includes of itself": ("#if __INCLUDE_LEVEL__ < 26\n#include __FILE__\n#include __FILE__\n#endif\n", EITHER),
    "endless includes of itself": ("#include __FILE__\n", "nested depth"),
    "4^19 macros": (f"#define M0 1+\n{DOUBLING}int x = M19 0;{MAIN}", EITHER),
    "1 GiB of static data": (f"int a[1 << 28] = {{1}};{MAIN}", FILE_SIZE),
    "an artifact over the limit": (f"char a[70 << 20] = {{1}};{MAIN}", FILE_SIZE),
    ".rept": (asm(".rept 1000000000", ".quad 1", ".endr"), EITHER),
    ".fill": (asm(".fill 100000000000,8,1"), FILE_SIZE),
    ".org": (asm(".org 0x7fffffffffff"), FILE_SIZE),
    ".print": (asm(".rept 100000000", '.print "xxxxxxxxxxxxxxxxxxx"', ".endr"), EITHER),
    "125,000 blocks": ("int f(void)" + "{" * 125000 + "}" * 125000 + MAIN, EITHER),
    "errors": ("int f(int x) { return y" + "(y" * 20000 + MAIN, OUTPUT),
    "warnings": ("\n".join(f"#warning {'w' * 500}" for _ in range(400)) + MAIN, OUTPUT),
}
CPP_BOMBS = {
    "endless templates": ("template<int N> struct A { typedef typename A<N + 1>::t t; }; A<0>::t x;", "template"),
    "2^25 templates": (
        "template<int N, int M> struct A { static const int v = A<N - 1, M * 2>::v + A<N - 1, M * 2 + 1>::v; };"
        "template<int M> struct A<0, M> { static const int v = M; }; int x = A<25, 0>::v;",
        EITHER,
    ),
    "constexpr recursion": (
        "constexpr long f(int n) { return n < 2 ? n : f(n - 1) + f(n - 2); } constexpr long x = f(60);",
        "constexpr-ops-limit",
    ),
    "constexpr loop": (
        "constexpr int f() { int x = 0; for (long i = 0; i < 1L << 60; i++) x ^= 1; return x; } constexpr int x = f();",
        "constexpr-loop-limit",
    ),
    "1 GiB std::array": ("#include <bits/stdc++.h>\nstd::array<int, 1 << 28> a = {1};", FILE_SIZE),
}

#: What looks dangerous and is not, and what it prints.
HARMLESS = {
    "#include /dev/stdin": ('#include "/dev/stdin"' + MAIN, ""),
    "#include /proc/self/environ": ('#include "/proc/self/environ"' + MAIN, ""),
    ".incbin of the runner": (asm('.incbin "/opt/evalx/runner"'), ""),
    "#pragma comment": ('#pragma comment(lib, "/etc/shadow")' + MAIN, ""),
    "a plugin by pragma": (
        '#pragma GCC optimize("-fplugin=/box/main.c")\n'
        '__attribute__((optimize("-fplugin=/tmp/x.so"))) int f(void) { return 1; }' + MAIN,
        "",
    ),
    "a warning for the linker": (
        'static const char w[] __attribute__((section(".gnu.warning.main"))) = "w";' + MAIN,
        "",
    ),
    "another loader": ('const char i[] __attribute__((section(".interp"))) = "/etc/shadow";' + MAIN, ""),
    "alignment of 256 MiB": ("char a __attribute__((aligned(1 << 28)));" + MAIN, ""),
    "100,000 brackets": ("int x = " + "(" * 100000 + "1" + ")" * 100000 + ";" + MAIN, ""),
    "NUL": ('#include <stdio.h>\nint main(void) { \0 puts("o\0k"); return 0; }\n', "o"),
    "UTF-8": ('#include <stdio.h>\nint main(void) { int größe = 0; puts("π☃😀"); return größe; }\n', "π☃😀"),
    "a byte order mark and CR": ('\ufeff#include <stdio.h>\r\nint main(void) {\r\nputs("ok"); return 0; }', "ok"),
    "right-to-left marks": (
        '#include <stdio.h>\nint main(void) { /*\u202e } \u2066if (0)\u2069 \u2066*/ puts("ok"); return 0; }\n',
        "ok",
    ),
    "a line of 200 kB": ("int x = 0" + " " * 200000 + ";" + MAIN, ""),
}

#: Not C, or not a program.
NONSENSE = {
    "a linker script": "INPUT(/etc/shadow)\nSECTIONS { }\n",
    "a precompiled header by pragma": '#pragma GCC pch_preprocess "/box/main.c"' + MAIN,
    "sections of link-time optimisation": asm(
        '.section .gnu.lto_.opts,"e"', '.string "-fplugin=/box/x"', '.section .gnu.lto_.symtab.0,"e"', ".byte 0"
    ),
    "nothing": "",
    "no main": "int x;",
    "NULs": "\0" * 1000,
    "trigraphs": '??=include <stdio.h>\nint main(void) ??< puts("ok"); return 0; ??>\n',
    "an object file": "\x7fELF\x02\x01\x01" + "\0" * 57,
    "an unknown target": '#pragma GCC target("arch=nonsense")' + MAIN,
}


@pytest.mark.parametrize("name", READS)
async def test_a_compile_reads_nothing_of_others(ground: ProvingGround, name: str):
    code, said = READS[name]
    output = compile_output(await ground.strike("c", code, version="23"))
    assert said in output
    assert "root:" not in output


def says(output: str, said: str | tuple[str, ...]) -> bool:
    """Whether it says that, or one of these."""
    return any(one in output for one in ((said,) if isinstance(said, str) else said))


@pytest.mark.parametrize("name", BOMBS)
async def test_a_bomb_goes_off_within_its_limits(ground: ProvingGround, name: str):
    code, said = BOMBS[name]
    output = compile_output(await ground.strike("c", code))
    assert says(output, said), output[-500:]
    assert len(output) < 70_000


@pytest.mark.parametrize("name", CPP_BOMBS)
async def test_a_bomb_in_cpp(ground: ProvingGround, name: str):
    code, said = CPP_BOMBS[name]
    output = compile_output(await ground.strike("cpp", code + MAIN))
    assert says(output, said), output[-500:]


@pytest.mark.parametrize("name", HARMLESS)
async def test_what_is_allowed_does_no_harm(ground: ProvingGround, name: str):
    code, printed = HARMLESS[name]
    judged = await ground.strike("c", code, expected=printed)
    assert judged.verdicts == [Verdict.AC], judged


@pytest.mark.parametrize("name", NONSENSE)
async def test_nonsense_does_not_compile(ground: ProvingGround, name: str):
    assert compile_output(await ground.strike("c", NONSENSE[name]))


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_loader_of_the_authors_own_is_nothing_to_a_static_program(ground: ProvingGround, runs: int):
    """In a shared one the kernel refuses a path that is this long; the runner's own tests have that case."""
    code = 'const char i[5000] __attribute__((section(".interp"))) = "/x";' + MAIN
    judged = await ground.strike("c", code, runs=runs)
    assert judged.verdicts == [Verdict.OK] * runs


async def test_more_static_memory_than_code_can_reach_does_not_link(ground: ProvingGround):
    output = compile_output(await ground.strike("c", "char a[1L << 40];\nint main(void) { return a[5]; }\n"))
    assert "out of range" in output


@pytest.mark.parametrize("runs", [1, 3])
async def test_more_static_memory_than_there_may_be_ends_the_program_at_its_start(ground: ProvingGround, runs: int):
    judged = await ground.strike("c", f"char a[{2 * 10**9}];\nint main(void) {{ return a[5]; }}\n", runs=runs)
    assert judged.verdicts == [Verdict.RTE] * runs
    assert [test.signal for test in judged.tests] == [11] * runs


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_constructor_runs_in_the_test_and_not_before(ground: ProvingGround, runs: int):
    code = """
#include <unistd.h>
#include <fcntl.h>
__attribute__((constructor)) static void early(void) {
    if (open("/tmp/by-the-compiler", O_RDONLY) < 0)
        write(1, "early", 5);
    _exit(0);
}
int main(void) { return 1; }
"""
    judged = await ground.strike("c", code, runs=runs, expected="early")
    assert judged.verdicts == [Verdict.AC] * runs
