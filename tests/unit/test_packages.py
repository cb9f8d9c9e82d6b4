"""Problem packages: what is read of them, and what is refused rather than judged wrongly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalx.errors import UsageError
from evalx.problems import Package, load_package
from evalx.problems.manifest import checker_of, parse_yaml
from evalx.settings import Settings

PACKAGES = Path(__file__).parents[1] / "data" / "packages"
MIB = 1 << 20
NEW = "problem_format_version: 2025-09\n"


def load(directory: Path, **options: Any) -> Package:
    return load_package(directory, options.pop("settings", Settings()), **options)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """The least that is one."""
    return write(
        tmp_path,
        {"problem.yaml": "limits: {time_limit: 2}\n", "data/secret/1.in": "1\n", "data/secret/1.ans": "1\n"},
    )


def write(directory: Path, files: dict[str, str | bytes]) -> Path:
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return directory


def test_a_legacy_package():
    package = load(PACKAGES / "different")
    assert [test["id"] for test in package.tests] == [
        *("sample/1", "sample/2"),
        "secret/000",
        *("secret/01-small/a", "secret/01-small/b"),
        # By name, as the format says, and not by number.
        *("secret/02-large/10", "secret/02-large/9"),
    ]
    assert package.tests[0] == {"id": "sample/1", "stdin": "1 2\n", "expected_output": "3\n"}
    assert package.limits == {"cpu_time_ms": 3000, "memory_bytes": 512 * MIB, "output_bytes": MIB}
    assert package.checker == {"kind": "floats", "abs_tol": 1e-4, "rel_tol": 1e-4, "ignore_case": True}
    assert package.notes == []


def test_a_package_of_today():
    package = load(PACKAGES / "shout")
    assert [test["id"] for test in package.tests] == ["sample/1", "secret/2"]
    assert package.limits == {"cpu_time_ms": 1500, "memory_bytes": 1024 * MIB, "output_bytes": 8 * MIB}
    assert package.checker == {"kind": "tokens", "ignore_case": True}
    assert package.notes == ["memory_bytes of 4096 MiB is over this installation's maximum: 1024 MiB are given"]


def test_only_some_of_the_tests():
    package = load(PACKAGES / "different", only=["sample/*", "secret/02*/9"])
    assert [test["id"] for test in package.tests] == ["sample/1", "sample/2", "secret/02-large/9"]
    with pytest.raises(UsageError, match="has no tests that fit nothing"):
        load(PACKAGES / "different", only=["nothing"])


@pytest.mark.parametrize(
    ("files", "cpu_time_ms"),
    [
        ({"problem.yaml": "limits: {time_limit: 0.25}", ".timelimit": "9"}, 250),
        ({"problem.yaml": "name: x", ".timelimit": "4\n", "domjudge-problem.ini": "timelimit=5"}, 4000),
        ({"problem.yaml": "", "domjudge-problem.ini": "timelimit='5'\nname = A % 1\n"}, 5000),
        ({"problem.yaml": "limits: {time_limit: ~}", "domjudge-problem.ini": 'timelimit = "1.5"'}, 1500),
        ({"problem.yaml": "limits:\n", "domjudge-problem.ini": "name=x"}, None),
    ],
)
def test_where_a_time_limit_may_be(package: Path, files: dict[str, str | bytes], cpu_time_ms: int | None):
    found = load(write(package, files))
    assert found.limits.get("cpu_time_ms") == cpu_time_ms
    assert any("has no time limit" in note for note in found.notes) == (cpu_time_ms is None)


@pytest.mark.parametrize(
    ("flags", "checker"),
    [
        ("", {"kind": "tokens", "ignore_case": True}),
        ("case_sensitive", {"kind": "tokens", "ignore_case": False}),
        ("case_sensitive space_change_sensitive", {"kind": "exact"}),
        ("float_tolerance 1e-6", {"kind": "floats", "abs_tol": 1e-6, "rel_tol": 1e-6, "ignore_case": True}),
        (
            "float_absolute_tolerance 0.5 case_sensitive",
            {"kind": "floats", "abs_tol": 0.5, "rel_tol": 0, "ignore_case": False},
        ),
        ("float_relative_tolerance .1", {"kind": "floats", "abs_tol": 0, "rel_tol": 0.1, "ignore_case": True}),
    ],
)
def test_flags_of_the_default_validator(flags: str, checker: dict[str, Any]):
    assert checker_of(flags.split()) == checker


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        ("space_change_sensitive", "only with case_sensitive"),
        ("case_sensitive space_change_sensitive float_tolerance 1", "without tolerances"),
        ("float_tolerance", "has '' for a number"),
        ("float_tolerance x", "has 'x' for a number"),
        ("float_tolerance -1", "has '-1' for a number"),
        ("float_tolerance nan", "has 'nan' for a number"),
        ("ignore_everything", "'ignore_everything' is not known"),
    ],
)
def test_flags_that_evalx_cannot_follow(package: Path, flags: str, what: str):
    write(package, {"problem.yaml": f"validator_flags: {flags}"})
    with pytest.raises(UsageError, match=f"{what}.*`--checker`"):
        load(package)
    assert load(package, checker={"kind": "lines"}).checker == {"kind": "lines"}


FLOATS = {"kind": "floats", "abs_tol": 0.1, "rel_tol": 0.1, "ignore_case": True}


@pytest.mark.parametrize(
    "files",
    [
        {"problem.yaml": "", "data/testdata.yaml": "output_validator_flags: float_tolerance 0.1"},
        {"problem.yaml": "", "data/secret/testdata.yaml": "output_validator_flags: float_tolerance 0.1"},
        {"problem.yaml": NEW, "data/secret/test_group.yaml": "output_validator_args: [float_tolerance, '0.1']"},
        {"problem.yaml": NEW, "data/secret/1.yaml": "output_validator_args: [float_tolerance, 0.1]"},
        {
            "problem.yaml": "validator_flags: float_relative_tolerance 0.1",
            "data/secret/testdata.yaml": "output_validator_flags: float_absolute_tolerance 0.1",
        },
    ],
)
def test_flags_of_folders_and_tests(package: Path, files: dict[str, str | bytes]):
    assert load(write(package, files)).checker == FLOATS


def test_a_nearer_file_replaces_those_above_it(package: Path):
    files: dict[str, str | bytes] = {
        "data/testdata.yaml": "output_validator_flags: float_tolerance 0.1",
        "data/secret/testdata.yaml": "on_reject: continue",
    }
    assert load(write(package, {"problem.yaml": "", **files})).checker["kind"] == "tokens"
    assert load(write(package, {"problem.yaml": NEW, **files})).checker["kind"] == "floats"


def test_tests_that_are_compared_differently(package: Path):
    files: dict[str, str | bytes] = {
        "data/sample/1.in": "",
        "data/sample/1.ans": "",
        "data/secret/testdata.yaml": "output_validator_flags: case_sensitive",
    }
    with pytest.raises(UsageError, match="sample/1 and secret/1 are to be compared differently"):
        load(write(package, files))
    assert load(package, only=["secret/*"]).checker == {"kind": "tokens", "ignore_case": False}
    assert load(package, checker={"kind": "exact"}).checker == {"kind": "exact"}


@pytest.mark.parametrize(
    ("files", "what"),
    [
        ({"problem.yaml": "validation: custom"}, r"custom output validator \(validation: custom\).*--checker"),
        ({"problem.yaml": NEW, "output_validator/v.py": ""}, r"\(output_validator/\) is not supported"),
        ({"problem.yaml": "validation: custom interactive"}, "interactive problems are not supported"),
        ({"problem.yaml": NEW + "type: [pass-fail, interactive]"}, "interactive problems"),
        ({"problem.yaml": NEW + "type: [multi-pass, scoring]"}, "multi-pass problems"),
        ({"problem.yaml": NEW + "type: submit-answer"}, "submit-answer problems"),
        ({"include/cpp/grader.cpp": ""}, "code that is added to submissions"),
        ({"problem.yaml": NEW, "data/secret/1.files/x": ""}, "files for the program"),
        ({"data/secret/1.args": "x"}, "arguments for the program"),
        ({"problem.yaml": NEW, "data/secret/1.yaml": "args: [x]"}, "arguments for the program"),
        ({"problem.yaml": "- a\n- b"}, "a map of keys and values is expected"),
        ({"problem.yaml": "a: [b"}, "is not YAML"),
        ({"problem.yaml": "a: \x00"}, "is not YAML"),
        ({"problem.yaml": b"\xff\xff"}, "is not YAML"),
        ({"problem.yaml": "[" * 100_000}, "is not YAML"),
        ({"problem.yaml": "#" * (MIB + 1)}, "has more than"),
        ({"problem.yaml": "limits: 3"}, "limits: a map"),
        ({"problem.yaml": "limits: {time_limit: soon}"}, "'soon' is not a number of seconds"),
        ({"problem.yaml": "limits: {time_limit: -1}"}, "is not a number of seconds"),
        ({"problem.yaml": "limits: {time_limit: .inf}"}, "is not a number of seconds"),
        ({"problem.yaml": "limits: {time_limit: [1]}"}, "is not a number of seconds"),
        ({"problem.yaml": "limits: {memory: 0}"}, "limits.memory: '0' is not a whole number"),
        ({"problem.yaml": "limits: {memory: 1.5}"}, "limits.memory"),
        ({"problem.yaml": "limits: {output: 99999999999999999999}"}, "limits.output"),
        ({"problem.yaml": "", ".timelimit": "soon"}, "is not a number of seconds"),
        ({"problem.yaml": "", ".timelimit": b"\xff"}, "not UTF-8"),
        ({"problem.yaml": "", "domjudge-problem.ini": "[x\n= y"}, "cannot be read"),
        ({"problem.yaml": "validator_flags: {a: b}"}, "a text, or a list of texts"),
        ({"data/secret/2.in": ""}, r"2\.in has no 2\.ans beside it"),
        ({"data/secret/2.ans": ""}, r"2\.ans has no 2\.in beside it"),
        ({"data/secret/1.in": b"\xff"}, "not UTF-8"),
        ({"data/secret/" + "a/" * 17 + "1.in": ""}, "nested too deeply"),
    ],
)
def test_what_cannot_be_judged_is_refused(package: Path, files: dict[str, str | bytes], what: str):
    with pytest.raises(UsageError, match=what):
        load(write(package, files))


def test_a_custom_validator_may_be_replaced(package: Path):
    write(package, {"problem.yaml": "validation: custom"})
    assert load(package, checker={"kind": "tokens"}).checker == {"kind": "tokens"}


def test_a_scoring_problem_has_verdicts_only(package: Path):
    write(package, {"problem.yaml": "type: scoring\nlimits: {time_limit: 1}"})
    assert load(package).notes == ["it is a scoring problem: there are verdicts, but no points"]


def test_no_package_at_all(tmp_path: Path):
    with pytest.raises(UsageError, match="unpack an archive first"):
        load(write(tmp_path, {"x.zip": ""}) / "x.zip")
    with pytest.raises(UsageError, match=r"it has no problem\.yaml"):
        load(tmp_path)
    with pytest.raises(UsageError, match="has no tests; they are data/sample"):
        load(write(tmp_path, {"problem.yaml": ""}))


def test_too_many_or_too_large_tests_say_what_to_do(package: Path):
    files = {f"data/secret/{number}.{kind}": "1\n" for number in range(3) for kind in ("in", "ans")}
    write(package, dict(files))
    with pytest.raises(UsageError, match="has 3 tests, one submission may have 2; judge it in parts, with --only"):
        load(package, settings=Settings(max_tests=2))
    assert len(load(package, settings=Settings(max_tests=2), only=["*/1"]).tests) == 1
    write(package, {"data/secret/0.in": b"x" * (MIB + 1)})
    with pytest.raises(UsageError, match=r"have 1\.0 MiB, one submission may have 1\.0 MiB; judge it in parts"):
        load(package, settings=Settings(max_message_bytes=MIB))


def test_links_stay_inside_of_the_package(tmp_path: Path):
    """Else a package from anywhere could have any file judged that its reader can read, and print it in a diff."""
    (tmp_path / "secret.txt").write_text("secret\n")
    package = write(
        tmp_path / "p",
        {"problem.yaml": "", "data/secret/1.in": "1\n", "data/secret/1.ans": "1\n"},
    )
    (package / "data/secret/2.in").symlink_to(package / "data/secret/1.in")
    (package / "data/secret/2.ans").symlink_to("1.ans")
    assert [test["stdin"] for test in load(package).tests] == ["1\n", "1\n"]
    for name in ("data/secret/3.in", "data/secret/1.ans", "data/secret/testdata.yaml", "data/secret/g", ".timelimit"):
        link = package / name
        kept = link.read_bytes() if link.exists() else None
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path if name.endswith("g") else tmp_path / "secret.txt")
        with pytest.raises(UsageError, match="leads out of the package"):
            load(package)
        link.unlink()
        if kept is not None:
            link.write_bytes(kept)
    (package / "data/secret/loop").symlink_to(package / "data/secret")
    with pytest.raises(UsageError, match="nested too deeply"):
        load(package)


def test_what_is_no_file_is_not_waited_for(package: Path):
    write(package, {"data/secret/2.ans": ""})
    os.mkfifo(package / "data/secret/2.in")
    with pytest.raises(UsageError, match=r"2\.in is no regular file"):
        load(package)


@given(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))))
def test_whatever_is_in_a_yaml_file_it_is_read_or_refused(raw: bytes):
    try:
        assert isinstance(parse_yaml(raw, "x"), dict)
    except UsageError as error:
        message = str(error)
    else:
        message = "x"
    assert message.startswith("x")


@pytest.mark.parametrize(
    "raw",
    [
        "!!python/object/apply:os.system [ls]", "a: !!timestamp x", "a: !!int ''", "a: !!bool x", "a: 2021-13-45",
        "? [a]\n: b", "=", "<<: 3", "a: &a [*a]", "%YAML 9.9\n---\na: b", "--- a\n--- b", "a: b\na: c", "\ufeffa: b",
    ],
)  # fmt: skip
def test_odd_yaml(raw: str):
    try:
        assert isinstance(parse_yaml(raw.encode(), "x"), dict)
    except UsageError as error:
        message = str(error)
    else:
        message = ""
    assert "\n" not in message
