"""The seccomp profile: what its table says, and how it becomes Docker's format."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evalx.errors import ConfigurationError
from evalx.sandbox.runtime import container_spec
from evalx.sandbox.seccomp import Filter, profile, security_options, table
from evalx.settings import Settings

# One of each way out of a container, and of each kind of thing that outlives a program.
_NEVER = """
clone3 unshare setns mount pivot_root chroot fsopen open_tree move_mount ptrace process_vm_readv process_vm_writev
pidfd_getfd io_uring_setup io_uring_enter io_uring_register bpf userfaultfd perf_event_open keyctl add_key request_key
kexec_load init_module finit_module delete_module open_by_handle_at name_to_handle_at quotactl clock_settime adjtimex
settimeofday swapon reboot acct syslog fanotify_init memfd_secret vmsplice splice shmget semget msgget mq_open
"""


@pytest.fixture
def rules() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = profile(table())["syscalls"]
    return found


def of(rules: list[dict[str, Any]], call: str) -> list[dict[str, Any]]:
    return [rule for rule in rules if call in rule["names"]]


def test_no_call_is_in_two_tables():
    source = table()
    names = [name for part in (source.allow, source.filter, source.deny) for group in part for name in group.names]
    assert sorted(names) == sorted(set(names))


def test_what_is_in_no_table_is_answered_with_enosys():
    whole = profile(table())
    assert (whole["defaultAction"], whole["defaultErrnoRet"]) == ("SCMP_ACT_ERRNO", errno.ENOSYS)


def test_no_second_set_of_numbers_leads_around_the_filter():
    architectures = profile(table())["archMap"]
    assert {one["architecture"] for one in architectures} == {"SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"}
    assert all(one["subArchitectures"] == [] for one in architectures)


@pytest.mark.parametrize("call", _NEVER.split())
def test_refused(rules: list[dict[str, Any]], call: str):
    assert of(rules, call) == [
        {"names": of(rules, call)[0]["names"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.ENOSYS}
    ]


@pytest.mark.parametrize("call", ["socket", "socketpair"])
def test_local_sockets_only(rules: list[dict[str, Any]], call: str):
    """Exactly AF_UNIX; the other rule is its opposite, so that one of the two always applies."""
    found = [(rule["action"], rule.get("errnoRet"), rule["args"]) for rule in of(rules, call)]
    assert found == [
        ("SCMP_ACT_ALLOW", None, [{"index": 0, "op": "SCMP_CMP_EQ", "value": 1}]),
        ("SCMP_ACT_ERRNO", errno.EAFNOSUPPORT, [{"index": 0, "op": "SCMP_CMP_NE", "value": 1}]),
    ]


def test_a_filtered_call_has_no_rule_without_arguments(rules: list[dict[str, Any]]):
    """libseccomp would drop the checks of the arguments in its favour, and everything would be allowed."""
    for name in (name for group in table().filter for name in group.names):
        assert all(len(rule["args"]) == 1 for rule in of(rules, name)), name


def test_clone_must_have_no_flag_of_a_namespace(rules: list[dict[str, Any]]):
    (rule,) = of(rules, "clone")
    (check,) = rule["args"]
    new = (0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000)
    assert check == {"index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": sum(new), "valueTwo": 0}


def test_an_errno_that_libseccomp_cannot_express_is_refused():
    with pytest.raises(ValueError, match="single value"):
        Filter(why="x", calls="ioctl", argument=1, values=(1, 2), errno="ENOSYS")


def test_every_container_gets_it():
    spec = container_spec(Settings(), "sandbox-c-cpp", {})
    first, ours = spec.create_options(1)["HostConfig"]["SecurityOpt"]
    assert first == "no-new-privileges"
    assert msgspec.json.decode(ours.removeprefix("seccomp=")) == profile(table())


def test_the_daemons_own_profile():
    assert security_options("docker") == ()


def test_a_profile_of_the_operator(tmp_path: Path):
    path = tmp_path / "own.json"
    path.write_text('{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": []}')
    assert security_options(str(path)) == (f"seccomp={path.read_text()}",)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        (None, "neither"),
        ("unconfined", "neither"),
        ("{}", "neither"),
        ("\udcff", "neither"),
        ('{"defaultAction": "SCMP_ACT_ALLOW"}', "lets through"),
        ('{"defaultAction": "SCMP_ACT_LOG"}', "lets through"),
    ],
)
def test_a_profile_that_is_none(tmp_path: Path, text: str | None, what: str):
    path = tmp_path / "own.json"
    if text is not None:
        path.write_text(text, errors="surrogateescape")
    with pytest.raises(ConfigurationError, match=what) as caught:
        security_options(str(path))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("value", ["unconfined", "seccomp=unconfined"])
def test_no_profile_at_all_is_refused(value: str):
    with pytest.raises(ConfigurationError):
        security_options(Settings.load(seccomp=value).seccomp)
