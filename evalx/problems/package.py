"""A problem package in the format of Kattis and the ICPC: tests, limits, and how outputs are compared.

Both the legacy format and its successors (`2023-07-draft`, `2025-09`) are read. Tests are those of `data/sample`, then
those of `data/secret`, in each folder tests and folders together in the order of their names, as the format says; their
ids are their names, such as `secret/group1/07`. evalx compares outputs itself and by one rule for all tests of a
submission: what needs a program of the package's own, or different rules, is refused by name rather than judged
wrongly.

A package may come from anywhere: links that lead out of it are refused, else its tests could be any file that the
reader has.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from evalx.errors import UsageError
from evalx.problems.directory import ANSWER_SUFFIX, INPUT_SUFFIX, read_test
from evalx.problems.manifest import Manifest, checker_of, load_yaml, refuse_outside, words
from evalx.settings import Settings

GROUPS = ("sample", "secret")
#: Folders within folders: the newest format allows two, the legacy one any number.
MAX_DEPTH = 16
#: How a folder, and a test, says what its validator is given, in the formats' several versions.
_GROUP_FILES = ("test_group.yaml", "testdata.yaml")
_FLAG_KEYS = ("output_validator_args", "output_validator_flags")
_MIB = 1 << 20

OVERRIDE = "`--checker` says how to compare outputs instead"
PARTS = "judge it in parts, with --only 'secret/0*' and the like"


class Package(msgspec.Struct, frozen=True):
    """What a submission to this problem has besides its source; ``notes`` are for who reads the verdict."""

    tests: list[dict[str, str]]
    limits: dict[str, int]
    checker: dict[str, Any]
    notes: list[str]


class _Found(msgspec.Struct, frozen=True):
    """A test on disk: its id, the path without suffix, and the flags of its folder."""

    id: str
    path: Path
    flags: tuple[str, ...]

    @property
    def input(self) -> Path:
        return self.path.with_name(self.path.name + INPUT_SUFFIX)

    @property
    def answer(self) -> Path:
        return self.path.with_name(self.path.name + ANSWER_SUFFIX)


def load_package(
    directory: Path, settings: Settings, *, only: Sequence[str] = (), checker: dict[str, Any] | None = None
) -> Package:
    """Read a package. ``only`` are patterns of test ids, ``checker`` replaces the package's own.

    Raises:
        UsageError: it is none, or cannot be judged by evalx, or has more tests than a submission may have.
    """
    if not directory.is_dir():
        raise UsageError(f"{directory} is not a directory; unpack an archive first")
    manifest = Manifest(directory)
    found = [test for test in _walk_all(directory, manifest) if _is_wanted(test.id, only)]
    if not found:
        wanted = f" that fit {', '.join(only)}" if only else ""
        raise UsageError(f"{directory / 'data'} has no tests{wanted}; they are data/sample/*.in and data/secret/*.in")
    _check_size(found, settings)
    notes = list(_notes(manifest))
    return Package(
        tests=[read_test(test.id, test.input, test.answer) for test in found],
        limits=_capped(manifest.limits(), settings, notes),
        checker=checker or _checker(manifest, found),
        notes=notes,
    )


def _walk_all(directory: Path, manifest: Manifest) -> Iterator[_Found]:
    walker = _Walker(directory.resolve(), manifest)
    data = directory / "data"
    refuse_outside(data, walker.root)
    top = walker.flags_of(data, tuple(manifest.validator_flags))
    for name in GROUPS:
        if (data / name).is_dir():
            refuse_outside(data / name, walker.root)
            yield from walker.walk(data / name, name, top)


class _Walker:
    def __init__(self, root: Path, manifest: Manifest) -> None:
        self.root = root
        self._manifest = manifest

    def walk(self, folder: Path, name: str, flags: tuple[str, ...]) -> Iterator[_Found]:
        """The tests of a folder and of those in it."""
        if name.count("/") >= MAX_DEPTH:
            raise UsageError(f"{folder} is nested too deeply")
        flags = self.flags_of(folder, flags)
        entries = {path.name: path for path in folder.iterdir()}
        for entry in sorted(entries.values(), key=lambda path: path.name.removesuffix(INPUT_SUFFIX)):
            refuse_outside(entry, self.root)
            if entry.is_dir():
                self._refuse_files(entry)
                yield from self.walk(entry, f"{name}/{entry.name}", flags)
            elif entry.suffix == INPUT_SUFFIX:
                yield self._test(entry, name, flags)
            elif entry.suffix == ANSWER_SUFFIX and f"{entry.stem}{INPUT_SUFFIX}" not in entries:
                raise UsageError(f"{entry} has no {entry.stem}{INPUT_SUFFIX} beside it")

    def flags_of(self, folder: Path, inherited: tuple[str, ...]) -> tuple[str, ...]:
        """The validator's flags in a folder."""
        for name in _GROUP_FILES:
            path = folder / name
            if path.is_file():
                refuse_outside(path, self.root)
                return self._flags(path, inherited)
        return inherited

    def _flags(self, path: Path, inherited: tuple[str, ...]) -> tuple[str, ...]:
        values = load_yaml(path)
        if values.get("args") not in (None, "", "[]", []):
            raise UsageError(f"{path}: arguments for the program are not supported")
        key = next((key for key in _FLAG_KEYS if key in values), None)
        if key is None:
            # In the legacy format the nearest file replaces those above it as a whole.
            return tuple(self._manifest.validator_flags) if self._manifest.is_legacy else inherited
        own = tuple(words(values[key], f"{path}: {key}"))
        return (*self._manifest.validator_flags, *own) if self._manifest.is_legacy else own

    def _test(self, entry: Path, group: str, flags: tuple[str, ...]) -> _Found:
        test = _Found(f"{group}/{entry.stem}", entry.with_suffix(""), flags)
        if not test.answer.exists():
            raise UsageError(f"{entry} has no {test.answer.name} beside it")
        for path in (entry, test.answer):
            # A pipe would be waited for.
            if not path.is_file():
                raise UsageError(f"{path} is no regular file")
        refuse_outside(test.answer, self.root)
        if entry.with_suffix(".args").exists():
            raise UsageError(f"{entry.with_suffix('.args')}: arguments for the program are not supported")
        configured = entry.with_suffix(".yaml")
        if configured.is_file() and not self._manifest.is_legacy:
            refuse_outside(configured, self.root)
            return msgspec.structs.replace(test, flags=self._flags(configured, flags))
        return test

    def _refuse_files(self, entry: Path) -> None:
        if entry.suffix == ".files":
            raise UsageError(f"{entry}: files for the program are not supported, it reads standard input only")


def _is_wanted(test_id: str, only: Sequence[str]) -> bool:
    return not only or any(fnmatch.fnmatchcase(test_id, pattern) for pattern in only)


def _check_size(found: Sequence[_Found], settings: Settings) -> None:
    size = sum(path.stat().st_size for test in found for path in (test.input, test.answer))
    if size > settings.max_message_bytes:
        raise too_large(size, settings)
    if len(found) > settings.max_tests:
        raise UsageError(f"it has {len(found)} tests, one submission may have {settings.max_tests}; {PARTS}")


def too_large(size: int, settings: Settings) -> UsageError:
    """What is said of a package whose tests, in bytes, are too much for one submission."""
    most = settings.max_message_bytes / _MIB
    return UsageError(f"its tests have {size / _MIB:.1f} MiB, one submission may have {most:.1f} MiB; {PARTS}")


def _capped(limits: dict[str, int], settings: Settings, notes: list[str]) -> dict[str, int]:
    """Packages often name the most that any judge gives; what is given here is said, and is no reason to refuse."""
    for name, most in (("memory_bytes", settings.max_memory_bytes), ("output_bytes", settings.max_output_bytes)):
        if limits.get(name, 0) > most:
            asked = limits[name] // _MIB
            notes.append(f"{name} of {asked} MiB is over this installation's maximum: {most / _MIB:g} MiB are given")
            limits[name] = most
    return limits


def _checker(manifest: Manifest, found: Sequence[_Found]) -> dict[str, Any]:
    if (custom := manifest.custom_validator) is not None:
        raise UsageError(f"a custom output validator ({custom}) is not supported; {OVERRIDE}")
    kinds: dict[tuple[str, ...], _Found] = {}
    for test in found:
        kinds.setdefault(test.flags, test)
    try:
        checkers = {test.id: checker_of(list(flags)) for flags, test in kinds.items()}
    except UsageError as error:
        raise UsageError(f"{error}; {OVERRIDE}") from None
    first_id, first = next(iter(checkers.items()))
    if other := next((test_id for test_id, checker in checkers.items() if checker != first), None):
        raise UsageError(
            f"{first_id} and {other} are to be compared differently, which one submission cannot; "
            f"judge them apart with --only, or {OVERRIDE}"
        )
    return first


def _notes(manifest: Manifest) -> Iterator[str]:
    if "cpu_time_ms" not in manifest.limits():
        places = "limits.time_limit, .timelimit or domjudge-problem.ini"
        yield f"the package has no time limit ({places}): the default is used, unless --cpu-time-ms is given"
    if manifest.is_scoring:
        yield "it is a scoring problem: there are verdicts, but no points"
