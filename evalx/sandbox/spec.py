"""What a sandbox container is created with: the body of Docker's create call, and what it is known by."""

from __future__ import annotations

from typing import Any

import msgspec

from evalx.languages import RunStep
from evalx.sandbox.kept import KEPT_BYTES, KEPT_FILES
from evalx.sandbox.sockets import Sockets

LABEL_ROLE = "org.evalx.role"
LABEL_OWNER = "org.evalx.owner"
LABEL_SCOPE = "org.evalx.scope"
LABEL_LEASE = "org.evalx.lease"
ROLE_SANDBOX = "sandbox"
#: On images: the revision of what the worker relies on in them, besides the runner's protocol, such as files that the
#: language tables name. Raise it here and in the Dockerfiles whenever a worker would get on badly with an older image:
#: a compiler that cannot find its files would be blamed on the program.
LABEL_REVISION = "org.evalx.revision"
IMAGE_REVISION = "1"

#: Seconds without a frame after which a runner gives itself up. Longer than dockerd may stand still in an upgrade (20
#: s).
DEAD_MAN_S = 30

#: User ids of a container start at a random multiple of the stride: RLIMIT_NPROC counts a uid over the whole host, so
#: two containers that used the same ids would eat each other's process limit. Below 200,000 live the host's own ids
#: and the usual subordinate ranges; 2^31 is the last id that every tool can print.
UID_STRIDE = 1 << 16
UID_FIRST_BLOCK = 4
UID_BLOCKS = (1 << 31) // UID_STRIDE

#: Twice what the largest job needs: 1,000 inputs, or 4,096 collected files.
OPEN_FILES = 16_384

CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETUID")


class ContainerSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What every container of an image is created with. Sizes in bytes."""

    image: str
    labels: dict[str, str]
    memory_bytes: int
    pids: int
    work_bytes: int
    work_inodes: int
    #: Weight against whatever else wants the CPU, 1024 being usual; None = the daemon's own choice.
    cpu_shares: int | None = None
    runtime: str | None = None
    #: Besides no-new-privileges; see ``seccomp``.
    security_options: tuple[str, ...] = ()
    #: What the container starts once, for jobs with this command.
    interpreter: RunStep | None = None
    #: What spares frames the way through the daemon; None = they go there.
    sockets: Sockets | None = None

    def create_options(self, uid_base: int, mounts: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
        """The body of Docker's create call."""
        return {
            "Image": self.image,
            "Cmd": ["--uid-base", str(uid_base), "--uid-count", str(UID_STRIDE), "--dead-man", str(DEAD_MAN_S)],
            "Labels": {LABEL_ROLE: ROLE_SANDBOX, **self.labels},
            "Hostname": "sandbox",
            "User": "0:0",
            "OpenStdin": True,
            "StdinOnce": True,
            "AttachStdin": True,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": False,
            "NetworkDisabled": True,
            "HostConfig": {**self._host_config(), "Mounts": list(mounts)},
        }

    def _host_config(self) -> dict[str, Any]:
        config: dict[str, Any] = {
            "AutoRemove": True,
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "CapAdd": list(CAPABILITIES),
            "SecurityOpt": ["no-new-privileges", *self.security_options],
            "PidsLimit": self.pids,
            "Memory": self.memory_bytes,
            "MemorySwap": self.memory_bytes,
            "IpcMode": "private",
            # Without this dockerd writes every byte of the attach stream to its log on disk.
            "LogConfig": {"Type": "none"},
            "Tmpfs": self._tmpfs(),
            # The runner holds a descriptor for each waiting input and collected file; what the daemon allows varies.
            "Ulimits": [{"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES}],
        }
        if self.cpu_shares is not None:
            config["CpuShares"] = self.cpu_shares
        if self.runtime is not None:
            config["Runtime"] = self.runtime
        return config

    def _tmpfs(self) -> dict[str, str]:
        bounds = f"size={self.work_bytes},nr_inodes={self.work_inodes},nosuid,nodev"
        # What is kept leaves a job as much room as ever; its directory is an inode, too.
        box = f"size={self.work_bytes + KEPT_BYTES},nr_inodes={self.work_inodes + KEPT_FILES + 1},nosuid,nodev"
        return {
            "/box": f"{box},exec,mode=0755",
            "/scratch": f"{bounds},noexec,mode=0711",
            "/tmp": f"{bounds},noexec,mode=1777",
            "/dev/shm": f"{bounds},noexec,mode=1777",
        }
