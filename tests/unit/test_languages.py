import tomllib
from pathlib import Path

import pytest

from evalx.errors import ConfigurationError, RejectedError
from evalx.languages import Language, Registry
from evalx.settings import Settings

REGISTRY = Registry.load()
ALL = REGISTRY.languages
MIB = 1024 * 1024

GOOD = """
name = "x"
version = "1"
title = "X"
default = true
image = "sandbox-x"
source = "main.x"
[run]
argv = ["/box/main"]
[memory]
"""


def load(tmp_path: Path, **files: str) -> Registry:
    for name, text in files.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return Registry.load(tmp_path)


def label(language: Language) -> str:
    return f"{language.name}-{language.version}"


def test_the_contracts_languages_and_versions():
    rules = REGISTRY.rules(Settings.load())
    found = {name: (rule.default, set(rule.versions)) for name, rule in rules.languages.items()}
    assert found == {
        "c": ("17", {"17", "23"}),
        "cpp": ("17", {"17", "20", "23"}),
        "python": ("3.13", {"3.13"}),
        "java": ("21", {"21", "25"}),
        "javascript": ("20", {"20"}),
    }
    assert set(REGISTRY.names) == set(found)


def test_images():
    assert sorted(REGISTRY.images) == [
        "sandbox-c-cpp", "sandbox-java21", "sandbox-java25", "sandbox-javascript", "sandbox-python",
    ]  # fmt: skip


def test_rules_follow_the_settings():
    settings = Settings.load(max_tests=5, max_code_bytes=6, max_cpu_time_ms=2001, max_processes=17)
    rules = REGISTRY.rules(settings)
    assert (rules.max_tests, rules.max_code_bytes) == (5, 6)
    assert (rules.max_limits.cpu_time_ms, rules.max_limits.processes) == (2001, 17)
    assert rules.max_limits.wall_time_ms == 120_000


def test_resolve():
    assert REGISTRY.resolve("cpp").version == "17"
    assert REGISTRY.resolve("cpp", "23").version == "23"
    assert REGISTRY.resolve("C++").name == "cpp"
    assert REGISTRY.resolve("js", "20").image == "sandbox-javascript"
    with pytest.raises(RejectedError, match="known: ") as caught:
        REGISTRY.resolve("cobol")
    assert (caught.value.code, caught.value.field) == ("unknown_language", "language")
    with pytest.raises(RejectedError, match="installed: 21, 25") as caught:
        REGISTRY.resolve("java", "8")
    assert (caught.value.code, caught.value.field) == ("unknown_version", "version")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("a.c", "c"),
        ("a.CPP", "cpp"),
        ("a.py", "python"),
        ("Main.java", "java"),
        ("a.js", "javascript"),
        ("a.zig", None),
    ],
)
def test_of_file(file: str, name: str | None):
    assert REGISTRY.of_file(file) == name


@pytest.mark.parametrize("language", ALL, ids=label)
def test_each_table_is_named_after_its_language(language: Language):
    path = Path(__file__).parents[2] / "evalx" / "languages" / f"{label(language)}.toml"
    assert tomllib.loads(path.read_text())["name"] == language.name


@pytest.mark.parametrize("language", ALL, ids=label)
def test_commands(language: Language):
    argv = language.run_argv(300 * MIB + 17)
    assert not any("{" in word for word in argv)
    assert any(entry.startswith("PATH=") for entry in language.run_env)
    if language.compile is None:
        assert f"/box/{language.source}" in argv
    else:
        assert f"/box/{language.source}" in language.compile.argv
        assert any(entry.startswith("PATH=") for entry in language.compile.env)


def test_the_heap_follows_the_limit():
    assert "-Xmx300m" in REGISTRY.resolve("java").run_argv(300 * MIB + 17)
    assert "--max-old-space-size=256" in REGISTRY.resolve("javascript").run_argv(256 * MIB)
    assert "-Xmx1m" in REGISTRY.resolve("java").run_argv(5)


@pytest.mark.parametrize("name", ["java", "javascript"])
def test_runtimes_that_reserve_more_than_they_use_have_no_address_space_limit(name: str):
    language = REGISTRY.resolve(name)
    assert language.address_space_headroom_bytes is None
    assert language.memory_overhead_bytes > 0
    assert language.processes_overhead > 0


@pytest.mark.parametrize("name", ["c", "cpp", "python"])
def test_others_have_one(name: str):
    language = REGISTRY.resolve(name)
    assert language.address_space_headroom_bytes == 1024 * MIB
    assert language.memory_overhead_bytes == 0
    assert language.stack_bytes is None


@pytest.mark.parametrize(
    ("name", "stderr", "expected"),
    [
        ("cpp", b"terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n", True),
        ("cpp", b"Segmentation fault", False),
        ("python", b"Traceback ...\nMemoryError\n", True),
        ("python", b"IndexError\xff", False),
        ("java", b'Exception in thread "main" java.lang.OutOfMemoryError: Java heap space', True),
        ("java", b"Error occurred during initialization of VM\nCould not reserve enough space for object heap", True),
        ("java", b"Error occurred during initialization of VM\nToo small maximum heap\n", True),
        ("java", b"java.lang.StackOverflowError", False),
        ("javascript", b"FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory", True),
        ("javascript", b"RangeError: Array buffer allocation failed", True),
        ("javascript", b"RangeError: Maximum call stack size exceeded", False),
        ("c", b"", False),
    ],
)
def test_stderr_tells_a_lack_of_memory(name: str, stderr: bytes, expected: bool):
    assert REGISTRY.resolve(name).ran_out_of_memory(stderr) is expected


@pytest.mark.parametrize("standard", ["17", "20", "23"])
def test_cpp_is_compiled_with_the_flags_of_the_precompiled_headers(standard: str):
    step = REGISTRY.resolve("cpp", standard).compile
    assert step is not None
    assert step.argv[:4] == ("g++", f"-std=gnu++{standard}", "-O2", "-pipe")


def test_a_new_language_is_one_table(tmp_path: Path):
    registry = load(tmp_path, x=GOOD)
    assert registry.resolve("x").run_argv(1) == ("/box/main",)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("name =", "nmae ="), "nmae"),
        (('name = "x"', 'name = "X Y"'), r"\$\.name"),
        (('version = "1"', "version = 1"), r"\$\.version"),
        (('source = "main.x"', 'source = "../main.x"'), r"\$\.source"),
        (('argv = ["/box/main"]', "argv = []"), r"\$\.run\.argv"),
        (("[memory]", '[memory]\noverhead_bytes = "much"'), r"\$\.memory\.overhead_bytes"),
        (("[memory]", "[memory]\noverhead_bytes = -1"), r"\$\.memory\.overhead_bytes"),
        (("[memory]", '[memory]\n[compile]\nargv = ["a"]\ncollect = ["../x"]'), r"\$\.compile\.collect"),
        (("[run]", "[run"), "not TOML"),
        (("default = true", ""), "x has 0 default versions"),
    ],
)
def test_a_bad_table_is_named_with_the_place(tmp_path: Path, change: tuple[str, str], complaint: str):
    with pytest.raises(ConfigurationError, match=complaint) as caught:
        load(tmp_path, x=GOOD.replace(*change))
    assert "default versions" in str(caught.value) or str(tmp_path / "x.toml") in str(caught.value)


def test_tables_that_contradict_each_other(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="twice"):
        load(tmp_path, x=GOOD, y=GOOD)
    with pytest.raises(ConfigurationError, match="x has 2 default versions"):
        load(tmp_path, x=GOOD, y=GOOD.replace('version = "1"', 'version = "2"'))
    other = GOOD.replace('name = "x"', 'name = "y"\naliases = ["x"]')
    with pytest.raises(ConfigurationError, match="taken already"):
        load(tmp_path, x=GOOD, y=other)


def test_no_tables(tmp_path: Path):
    with pytest.raises(ConfigurationError, match="no language tables"):
        Registry.load(tmp_path)
