"""What a problem package says of itself: `problem.yaml`, the time limit beside it, and the flags of its validator.

YAML is read without types: every scalar is a text, and what should be a number is read as one here. So no tag, odd date
or number of YAML's can do anything but be a wrong value with a name.
"""

from __future__ import annotations

import configparser
import math
from pathlib import Path
from typing import Any

import yaml

from evalx.errors import UsageError

#: Bytes of a YAML file: the longest in use are a few KB.
MAX_YAML_BYTES = 1 << 20
_MIB = 1 << 20
#: MiB of output where a package names none: what its format calls typical. Our own default would fail many a package.
TYPICAL_OUTPUT_MIB = 8
#: Texts that stand for no value.
_NOTHING = ("", "~", "null", "Null", "NULL")
#: Types of problems whose programs are not run once, on an input that is known before.
_IMPOSSIBLE = {"interactive", "multi-pass", "submit-answer"}


def load_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's map, all scalars as text; empty when there is no file. Raises UsageError."""
    try:
        if not path.is_file():
            return {}
        if path.stat().st_size > MAX_YAML_BYTES:
            raise UsageError(f"{path} has more than {MAX_YAML_BYTES} bytes")
        return parse_yaml(path.read_bytes(), str(path))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None


def parse_yaml(raw: bytes, name: str) -> dict[str, Any]:
    """Likewise, of bytes; ``name`` is said in errors."""
    try:
        # Knows no tags: it makes texts, lists and maps, and nothing else.
        found = yaml.load(raw, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UsageError(f"{name} is not YAML: {' '.join(str(error).split()) or type(error).__name__}") from None
    if found is None or found in _NOTHING:
        return {}
    if not isinstance(found, dict):
        raise UsageError(f"{name}: a map of keys and values is expected")
    return found


class Manifest:
    """A package's `problem.yaml`, and what is beside it. Raises UsageError for what evalx cannot judge."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "problem.yaml"
        if not self._path.is_file():
            raise UsageError(f"{directory} is not a problem package: it has no problem.yaml")
        for name in ("problem.yaml", ".timelimit", "domjudge-problem.ini"):
            refuse_outside(directory / name, directory.resolve())
        self._directory = directory
        self._values = load_yaml(self._path)
        self._limits = self._map("limits")
        self.version = str(self._values.get("problem_format_version", "legacy"))
        self._refuse_impossible()

    @property
    def is_legacy(self) -> bool:
        """Whether it is in the format from before there were versions."""
        return self.version.startswith("legacy")

    @property
    def is_scoring(self) -> bool:
        """Whether it gives points."""
        return "scoring" in self._types

    @property
    def validator_flags(self) -> list[str]:
        """Arguments for the output validator, of all tests."""
        return words(self._values.get("validator_flags"), f"{self._path}: validator_flags")

    @property
    def custom_validator(self) -> str | None:
        """What says that outputs are not merely compared; None when they are."""
        validation = self._validation
        if self.is_legacy:
            return f"validation: {' '.join(validation)}" if validation[:1] == ["custom"] else None
        return "output_validator/" if _has_files(self._directory / "output_validator") else None

    def limits(self) -> dict[str, int]:
        """Limits of a submission, as far as the package names them."""
        found = {"output_bytes": (self._whole("output") or TYPICAL_OUTPUT_MIB) * _MIB}
        if (memory := self._whole("memory")) is not None:
            found["memory_bytes"] = memory * _MIB
        if (seconds := self._time_limit_s()) is not None:
            found["cpu_time_ms"] = max(1, round(seconds * 1000))
        return found

    @property
    def _types(self) -> set[str]:
        given = self._values.get("type") or []
        return set(given.split() if isinstance(given, str) else map(str, given))

    @property
    def _validation(self) -> list[str]:
        return words(self._values.get("validation"), f"{self._path}: validation")

    def _refuse_impossible(self) -> None:
        if found := (self._types | (set(self._validation) if self.is_legacy else set())) & _IMPOSSIBLE:
            raise UsageError(f"{self._path}: {', '.join(sorted(found))} problems are not supported")
        if _has_files(self._directory / "include"):
            raise UsageError(f"{self._directory / 'include'}: code that is added to submissions is not supported")

    def _map(self, key: str) -> dict[str, Any]:
        value = self._values.get(key)
        if value is None or value in _NOTHING:
            return {}
        if not isinstance(value, dict):
            raise UsageError(f"{self._path}: {key}: a map of keys and values is expected")
        return value

    def _whole(self, key: str) -> int | None:
        value = self._limits.get(key)
        if value is None or value in _NOTHING:
            return None
        if not (isinstance(value, str) and value.isascii() and value.isdigit() and 0 < int(value[:12]) == int(value)):
            raise UsageError(f"{self._path}: limits.{key}: {_shown(value)} is not a whole number of at least 1")
        return int(value)

    def _time_limit_s(self) -> float | None:
        """Of the places where it may be, the first one that has it."""
        value = self._limits.get("time_limit")
        if value is not None and value not in _NOTHING:
            return _seconds(value, f"{self._path}: limits.time_limit")
        beside = self._directory / ".timelimit"
        if beside.is_file():
            return _seconds(_text(beside).strip(), str(beside))
        return _domjudge_time_limit_s(self._directory / "domjudge-problem.ini")


def refuse_outside(path: Path, root: Path) -> None:
    """A package may come from anywhere, and what is read of it is printed and sent; raises UsageError."""
    if path.is_symlink() and not path.resolve().is_relative_to(root):
        raise UsageError(f"{path} is a link that leads out of the package")


def words(value: Any, name: str) -> list[str]:
    """Words of a text, or a list of them; raises UsageError."""
    if value is None or value in _NOTHING:
        return []
    if isinstance(value, str):
        return value.split()
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return list(value)
    raise UsageError(f"{name}: a text, or a list of texts, is expected")


def checker_of(flags: list[str]) -> dict[str, Any]:
    """The checker that compares as the format's default validator does with these arguments; raises UsageError."""
    left = list(flags)
    tolerances: dict[str, float] = {}
    switches: set[str] = set()
    while left:
        flag = left.pop(0)
        if flag in ("case_sensitive", "space_change_sensitive"):
            switches.add(flag)
        elif flag in _TOLERANCES:
            tolerances |= dict.fromkeys(_TOLERANCES[flag], _tolerance(flag, left))
        else:
            raise UsageError(f"the validator's flag {_shown(flag)} is not known")
    if "space_change_sensitive" in switches:
        return _exact(switches, tolerances)
    ignore_case = "case_sensitive" not in switches
    if tolerances:
        return {"kind": "floats", "abs_tol": 0.0, "rel_tol": 0.0, **tolerances, "ignore_case": ignore_case}
    return {"kind": "tokens", "ignore_case": ignore_case}


def _exact(switches: set[str], tolerances: dict[str, float]) -> dict[str, Any]:
    if tolerances or "case_sensitive" not in switches:
        raise UsageError("space_change_sensitive is supported only with case_sensitive, and without tolerances")
    return {"kind": "exact"}


_TOLERANCES = {
    "float_tolerance": ("abs_tol", "rel_tol"),
    "float_absolute_tolerance": ("abs_tol",),
    "float_relative_tolerance": ("rel_tol",),
}


def _tolerance(flag: str, left: list[str]) -> float:
    text = left.pop(0) if left else ""
    value = _number(text)
    if value is None or value < 0:
        raise UsageError(f"the validator's flag {flag} has {_shown(text)} for a number")
    return value


def _domjudge_time_limit_s(path: Path) -> float | None:
    if not path.is_file():
        return None
    # The format has no sections; quotes around values are usual.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        parser.read_string("[problem]\n" + _text(path))
    except configparser.Error as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    text = parser["problem"].get("timelimit", "").strip().strip("'\"")
    return _seconds(text, f"{path}: timelimit") if text else None


def _seconds(value: Any, name: str) -> float:
    number = _number(value)
    if number is None or not 0 < number < 1e6:
        raise UsageError(f"{name}: {_shown(value)} is not a number of seconds")
    return number


def _number(value: Any) -> float | None:
    try:
        number = float(value) if isinstance(value, str) else math.nan
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _text(path: Path) -> str:
    try:
        return path.read_bytes()[:MAX_YAML_BYTES].decode()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: byte {error.start} is not UTF-8") from None


def _has_files(directory: Path) -> bool:
    return directory.is_dir() and any(not path.name.startswith(".") for path in directory.iterdir())


def _shown(value: object) -> str:
    return repr(value)[:60]
