"""Every writable place filled, built up and booby-trapped: the reset must get rid of all of it, and prove it."""

from __future__ import annotations

import pytest
from proving_ground import ProvingGround, ground

from evalx.verdicts import Verdict

__all__ = ["ground"]

C = r"""
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

static char block[65536], name[4096];

static const char *in(const char *place, const char *what, int number) {
    snprintf(name, sizeof name, "%%s/%%s%%d", place, what, number);
    return name;
}

static int create(const char *path, mode_t mode) { return open(path, O_RDWR | O_CREAT | O_EXCL, mode); }

static void fill(const char *place) {
    for (int i = 0;; i++) {
        int fd = create(in(place, "f", i), 0600);
        ssize_t written = fd < 0 ? -1 : write(fd, block, sizeof block);
        if (written < 0)
            return;
        close(fd);
    }
}

static void say(int good) { puts(good ? "yes" : strerror(errno)); }

static void attack(const char *place) {
    %s
}

int main(void) {
    int home = open(".", O_RDONLY);
    static const char *const places[] = {"/tmp", "/dev/shm", "."};
    for (int i = 0; i < 3; i++) {
        attack(places[i]);
        fchdir(home);
    }
    return 0;
}
"""
FULL = "No space left on device"

#: What is done in each of the three places, and what it prints there.
ATTACKS = {
    "disk fill": ("fill(place); say(errno != ENOSPC);", FULL),
    "inode fill": ('int i = 0; while (mkdir(in(place, "d", i), 0) == 0) i++; say(0);', FULL),
    # 10,000 levels are wanted, and the inodes of a place end before.
    "deep directories": (
        'int levels = 0; chdir(place); while (levels < 10000 && mkdir("d", 0700) == 0 && chdir("d") == 0) levels++;'
        " say(levels > 8000);",
        "yes",
    ),
    "deep directories that nobody may enter": (
        'int levels = 0; chdir(place); while (levels < 2000 && mkdir("d", 0700) == 0 && chdir("d") == 0) levels++;'
        ' while (levels > 0 && chdir("..") == 0 && chmod("d", 0) == 0) levels--; say(levels == 0);',
        "yes",
    ),
    "odd names": (
        'static const char *const odd[] = {"a\\nb", "\\n", "\\001\\033[2J", "\\377\\200", " ", "-rf", "*", "..."};'
        " int made = 0; char one[] = \"x_\"; memset(name, 'n', 255); name[255] = 0; chdir(place);"
        " made += mkdir(name, 0700) == 0; for (int i = 0; i < 8; i++) made += mkdir(odd[i], 0700) == 0;"
        " for (int i = 1; i < 256; i++) { one[0] = (char)i; made += i != '/' && close(create(one, 0)) == 0; }"
        " say(made == 9 + 254);",
        "yes",
    ),
    "unreadable directories": (
        'chdir(place); mkdir("a", 0700); mkdir("a/b", 0700); close(create("a/b/c", 0)); chmod("a/b", 0);'
        ' say(chmod("a", 0) == 0);',
        "yes",
    ),
    "the place itself unreadable": ('chdir(place); say(chmod(".", 0) == 0 || errno == EPERM);', "yes"),
    "special bits": (
        'int made = mkdir(in(place, "s", 0), 07777) == 0 && chmod(name, 07777) == 0;'
        ' say(made && close(create(in(place, "s", 1), 06777)) == 0);',
        "yes",
    ),
    "immutable": (
        'int flags = FS_IMMUTABLE_FL, fd = create(in(place, "f", 0), 0600);'
        " say(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);",
        "Operation not permitted",
    ),
    "append only": (
        'int flags = FS_APPEND_FL, fd = create(in(place, "f", 0), 0600); say(ioctl(fd, FS_IOC_SETFLAGS, &flags) == 0);',
        "Operation not permitted",
    ),
    "extended attributes": (
        'int i = 0, fd = create(in(place, "f", 0), 0600); char key[32];'
        ' do snprintf(key, sizeof key, "user.%d", i++); while (i < 10000 && fsetxattr(fd, key, block, 60000, 0) == 0);'
        " say(i < 10000);",
        "yes",
    ),
    "hard links": (
        'char first[64]; int i = 0; strcpy(first, in(place, "f", 0)); close(create(first, 0600));'
        ' while (link(first, in(place, "l", i)) == 0) i++; say(0);',
        FULL,
    ),
    # FIFOs and sockets if they may be made, devices never.
    "links and special files": (
        "int made = 0; chdir(place);"
        ' made += symlink("/proc/1/root/etc", "link") == 0; made += symlink("loop", "loop") == 0;'
        ' made += mknod("fifo", S_IFIFO | 0600, 0) == 0; made += mknod("socket", S_IFSOCK | 0600, 0) == 0;'
        ' made += 100 * (mknod("null", S_IFCHR | 0666, 0x103) == 0); say(made >= 2 && made < 100);',
        "yes",
    ),
    "renames that never end": (
        "chdir(place); for (int k = 0; k < 2; k++) if (fork() == 0) { setsid(); char a[9], b[9];"
        ' for (int i = 0;; i++) { snprintf(a, 9, "a%d", k); snprintf(b, 9, "b%d", i % 3);'
        " mkdir(a, 0700); rename(a, b); close(create(b, 0)); } }"
        " usleep(5000); say(1);",
        "yes",
    ),
    "deleted and held open": (
        'fill(place); for (int i = 0; i < 300; i++) { open(in(place, "f", i), O_RDONLY); unlink(name); }'
        " if (fork() == 0) { setsid(); pause(); } say(1);",
        "yes",
    ),
}

#: Where no program may write, whatever the user.
READ_ONLY = [
    "/box/x", "/box/main", "/scratch/x", "/etc/x", "/etc/passwd", "/opt/evalx/runner", "/opt/evalx/x",
    "/proc/1/oom_score_adj",
    "/proc/sys/kernel/core_pattern", "/sys/x", "/dev/x", "/root/x", "/var/tmp/x", "/var/x", "/run/x", "/home/x",
]  # fmt: skip


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("name", ATTACKS)
async def test_nothing_is_left_for_the_next_batch(ground: ProvingGround, name: str, runs: int):
    body, printed = ATTACKS[name]
    # Two runs share /tmp and /dev/shm: the second finds what the first has made, and prints other things.
    expected = f"{printed}\n" * 3 if runs == 1 else None
    # More than the places hold: what lies in them is on the bill of the tests.
    limits = {"memory_bytes": 1 << 30, "processes": 64, "cpu_time_ms": 10000}
    judged = await ground.strike("c", C % body, runs=runs, expected=expected, **limits)
    assert judged.verdicts == [Verdict.AC if expected is not None else Verdict.OK] * runs, judged


async def test_nothing_else_can_be_written(ground: ProvingGround):
    checks = "".join(f'if (open("{path}", O_WRONLY | O_CREAT, 0600) >= 0) puts("{path}");' for path in READ_ONLY)
    includes = "#include <fcntl.h>\n#include <stdio.h>\n#include <dirent.h>\n"
    listing = 'if (opendir("/scratch") != NULL) puts("/scratch can be listed");'
    judged = await ground.strike("c", f"{includes}int main(void) {{ {checks} {listing} return 0; }}", expected="")
    assert judged.verdicts == [Verdict.AC], judged


async def test_what_python_leaves(ground: ProvingGround):
    code = """
import os, tempfile
home = os.getcwd()
for place in ("/tmp", "/dev/shm", "."):
    os.chdir(home); os.chdir(place)
    for depth in range(900):
        os.mkdir("d"); os.chdir("d")
    open(b"\\xff\\n", "w").close()
    os.chmod(".", 0)
    os.chdir("/")
tempfile.NamedTemporaryFile(delete=False)
if os.fork() == 0:
    os.setsid()
    while True:
        tempfile.mkdtemp()
print("left")
"""
    judged = await ground.strike("python", code, expected="left")
    assert judged.verdicts == [Verdict.AC], judged


async def test_what_java_leaves(ground: ProvingGround):
    code = """
import java.nio.file.*;
public class Main {
    public static void main(String[] a) throws Exception {
        for (String place : new String[] {"/tmp", "/dev/shm", "."}) {
            Path at = Path.of(place);
            for (int i = 0; i < 200; i++) Files.createDirectory(at = at.resolve("d"));
            Files.createSymbolicLink(Path.of(place, "link"), Path.of("/proc/1/root"));
        }
        new ProcessBuilder("sh", "-c", "setsid sleep 100").start();
        System.out.println("left");
    }
}
"""
    judged = await ground.strike("java", code, expected="left")
    assert judged.verdicts == [Verdict.AC], judged
