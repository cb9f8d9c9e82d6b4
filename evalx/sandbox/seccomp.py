"""Which system calls work in a sandbox: the profile that Docker gets, from the table ``seccomp.toml`` or from a file.

Each table becomes rules of Docker's format. Two properties of libseccomp, which makes the filter, shape them:

- A rule that looks at no argument replaces all rules of the same call that do. So "these values, and else this errno"
  can be said only by a rule for the other values, and libseccomp takes one comparison of an argument a rule: such an
  errno needs a single value. Otherwise a filtered call with another argument gets the default.
- A call from an architecture without a table (i386, x32) kills the thread. None is listed but the native one.
"""

from __future__ import annotations

import errno
import os
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from evalx.errors import ConfigurationError

#: Settings that are not the path of a profile.
OURS = "evalx"
DOCKERS = "docker"

_ARCHITECTURES = ("SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64")
_ALLOW = "SCMP_ACT_ALLOW"
_REFUSE = "SCMP_ACT_ERRNO"
#: What a profile may do with a call that it does not name. Everything else lets it happen.
_REFUSING = frozenset(
    {_REFUSE, "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP", "SCMP_ACT_TRACE"}
)

_Calls = Annotated[str, Meta(pattern=r"^\s*[a-z0-9_]+(\s+[a-z0-9_]+)*\s*\Z")]
_Errno = Literal["ENOSYS", "EAFNOSUPPORT", "EOPNOTSUPP"]


class Group(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calls that are treated alike, and why."""

    why: Annotated[str, Meta(min_length=1)]
    calls: _Calls

    @property
    def names(self) -> list[str]:
        """The names of the calls."""
        return self.calls.split()


class Refusal(Group, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calls that fail, and with which error."""

    errno: _Errno = "ENOSYS"


class Filter(Group, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Calls that work when an argument, the bits of ``mask`` of it, has one of the values."""

    argument: Annotated[int, Meta(ge=0, le=5)]
    values: Annotated[tuple[int, ...], Meta(min_length=1)]
    mask: int | None = None
    errno: _Errno | None = None

    def __post_init__(self) -> None:
        if self.errno is not None and (self.mask is not None or len(self.values) != 1):
            raise ValueError(f"{self.calls}: an errno of its own needs a single value and no mask")


class Table(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole of ``seccomp.toml``."""

    allow: tuple[Group, ...]
    filter: tuple[Filter, ...]
    deny: tuple[Refusal, ...]


@cache
def table() -> Table:
    """The table that comes with evalx."""
    text = resources.files("evalx.sandbox").joinpath("seccomp.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Table)


def profile(source: Table) -> dict[str, Any]:
    """A table in Docker's format."""
    return {
        "defaultAction": _REFUSE,
        # Docker before 23 leaves this out and answers EPERM.
        "defaultErrnoRet": errno.ENOSYS,
        "archMap": [{"architecture": name, "subArchitectures": []} for name in _ARCHITECTURES],
        "syscalls": [
            *({"names": group.names, "action": _ALLOW} for group in source.allow),
            *(rule for group in source.filter for rule in _filter_rules(group)),
            *(_refuse(group.names, group.errno) for group in source.deny),
        ],
    }


def _filter_rules(group: Filter) -> list[dict[str, Any]]:
    rules = [{"names": group.names, "action": _ALLOW, "args": [_equals(group, value)]} for value in group.values]
    if group.errno is not None:
        other = {"index": group.argument, "op": "SCMP_CMP_NE", "value": group.values[0]}
        rules.append({**_refuse(group.names, group.errno), "args": [other]})
    return rules


def _equals(group: Filter, value: int) -> dict[str, Any]:
    if group.mask is None:
        return {"index": group.argument, "op": "SCMP_CMP_EQ", "value": value}
    # With this operator Docker's `value` is the mask.
    return {"index": group.argument, "op": "SCMP_CMP_MASKED_EQ", "value": group.mask, "valueTwo": value}


def _refuse(names: list[str], error: _Errno) -> dict[str, Any]:
    return {"names": names, "action": _REFUSE, "errnoRet": getattr(errno, error)}


def security_options(setting: str) -> tuple[str, ...]:
    """What ``EVALX_SECCOMP`` adds to a container's `SecurityOpt`: nothing when the daemon's own profile is wanted.

    Raises:
        ConfigurationError: the profile cannot be read, or would let everything through.
    """
    if setting == DOCKERS:
        return ()
    text = msgspec.json.encode(profile(table())) if setting == OURS else _read(Path(setting))
    return (f"seccomp={text.decode()}",)


def _read(path: Path) -> bytes:
    try:
        text = path.read_bytes()
        action = msgspec.json.decode(text, type=_Profile).default_action
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"EVALX_SECCOMP: {os.fspath(path)!r} is neither `{OURS}` nor `{DOCKERS}` nor a profile of Docker: {error}"
        ) from error
    if action not in _REFUSING:
        raise ConfigurationError(
            f"EVALX_SECCOMP: {os.fspath(path)} lets through whatever it does not name (defaultAction {action}); "
            f"write a profile that names what is allowed, with defaultAction {_REFUSE}"
        )
    return text


class _Profile(Struct, frozen=True, rename="camel"):
    default_action: str
