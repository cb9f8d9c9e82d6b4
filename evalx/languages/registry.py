"""Reads the language tables and answers which language is meant.

A language is one TOML file and one image. The file is read strictly: a name that is not known, a wrong type or a number
out of range stops the process at its start with the file and the place, instead of surprising the first submission.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from functools import cached_property
from importlib import resources
from importlib.resources.abc import Traversable
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from evalx.errors import ConfigurationError, RejectedError
from evalx.messages import LanguageRule, Limits, Rules
from evalx.settings import Settings

_MIB = 1024 * 1024

_Name: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9.+#-]*\Z", max_length=32)]
_FileName: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")]
_Collected: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*/?\Z")]
_Argv: TypeAlias = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]
_Replaced: TypeAlias = Annotated[str, Meta(pattern=r"^[a-z0-9.+#-]+( [a-z0-9.+#-]+)?\Z")]
_Env: TypeAlias = tuple[Annotated[str, Meta(pattern=r"^[A-Z_][A-Z0-9_]*=")], ...]
_Positive: TypeAlias = Annotated[int, Meta(ge=1)]
_Natural: TypeAlias = Annotated[int, Meta(ge=0)]


class CompileStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a source becomes something to run: in a private, empty directory, with the source at `/box/<source>`.

    `collect` names what comes out of that directory and goes to `/box/` for the runs; a name ending in `/` is a tree.
    `env` are `KEY=VALUE` texts. stdout and stderr are one capture of at most `output_bytes`.
    """

    argv: _Argv
    env: _Env = ()
    collect: Annotated[tuple[_Collected, ...], Meta(min_length=1)]
    cpu_time_ms: _Positive = 10_000
    wall_time_ms: _Positive = 30_000
    memory_bytes: _Positive = 1024 * _MIB
    processes: _Positive = 64
    output_bytes: _Positive = 64 * 1024
    artifact_max_bytes: Annotated[int, Meta(ge=1, le=64 * _MIB)] = 64 * _MIB


class RunStep(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the program is run, in a private, empty directory; `{memory_mb}` in `argv` is the limit in whole MiB.

    `mode`: `fork_server` starts a native program once for all tests where that is possible; `warm` forks tests from an
    interpreter that each container starts once, with this `argv` and `env`; see docs/sandbox.md.
    """

    argv: _Argv
    env: _Env = ()
    mode: Literal["exec", "fork_server", "warm"] = "exec"


class Memory(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How a language's memory limit is kept. Bytes on top of the submission's limit, unless said otherwise.

    `address_space_headroom_bytes`: the address-space limit is the submission's plus this; None = no such limit, since
    the JVM, Node and Go reserve far more than they use. `overhead_bytes`: resident memory of the runtime itself, which
    is not the program's. `stack_bytes`: the stack, absolute; None = as large as the memory limit.
    `exhausted_patterns`: a failed run that wrote one of these to stderr ran out of memory.
    """

    address_space_headroom_bytes: _Natural | None = None
    overhead_bytes: _Natural = 0
    stack_bytes: _Positive | None = None
    exhausted_patterns: tuple[Annotated[str, Meta(min_length=4)], ...] = ()


class Language(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, dict=True):
    """One version of a language. `image` is without the operator's prefix; `extensions` are without the dot.

    `replaces`: what callers of the original evalX ask for and get this instead, each `NAME` or `NAME VERSION`.
    """

    name: _Name
    version: _Name
    title: Annotated[str, Meta(min_length=1)]
    default: bool = False
    aliases: tuple[_Name, ...] = ()
    extensions: tuple[str, ...] = ()
    replaces: tuple[_Replaced, ...] = ()
    image: _Name
    source: _FileName
    compile: CompileStep | None = None
    run: RunStep
    memory: Memory
    processes_overhead: _Natural = 0

    @property
    def run_env(self) -> tuple[str, ...]:
        """The environment of a run, as `KEY=VALUE` texts."""
        return self.run.env

    @property
    def address_space_headroom_bytes(self) -> int | None:
        """Added to the memory limit to make the address-space limit; None = no address-space limit."""
        return self.memory.address_space_headroom_bytes

    @property
    def memory_overhead_bytes(self) -> int:
        """Resident bytes of the runtime itself, allowed on top of the memory limit."""
        return self.memory.overhead_bytes

    @property
    def stack_bytes(self) -> int | None:
        """Size of the stack; None = as large as the memory limit."""
        return self.memory.stack_bytes

    def run_argv(self, memory_bytes: int) -> tuple[str, ...]:
        """The command of a run under a memory limit in bytes."""
        # A heap of 0 means "the default" to the JVM and to Node, and that is not what a limit below 1 MiB asks for.
        memory_mb = str(max(1, memory_bytes // _MIB))
        return tuple(word.replace("{memory_mb}", memory_mb) for word in self.run.argv)

    def ran_out_of_memory(self, stderr: bytes) -> bool:
        """Whether a failed run's stderr says that memory was what it lacked."""
        return any(pattern in stderr for pattern in self._exhausted)

    @cached_property
    def _exhausted(self) -> tuple[bytes, ...]:
        return tuple(pattern.encode() for pattern in self.memory.exhausted_patterns)


class Registry:
    """All languages that are installed. `load` reads those that ship with evalx."""

    def __init__(self, languages: Iterable[Language]) -> None:
        self._by_name: dict[str, dict[str, Language]] = {}
        for language in languages:
            versions = self._by_name.setdefault(language.name, {})
            if language.version in versions:
                raise ConfigurationError(f"{language.name} {language.version} is there twice")
            versions[language.version] = language
        self._default = {name: _default(versions) for name, versions in self._by_name.items()}
        self._aliases = self._collect("aliases")
        self._extensions = self._collect("extensions")
        self._replaced = self._collect_replaced()

    @classmethod
    def load(cls, directory: Traversable | None = None) -> Registry:
        """The languages of a directory of TOML files, the package's own by default; raises ConfigurationError."""
        place = directory if directory is not None else resources.files("evalx.languages")
        files = sorted((entry for entry in place.iterdir() if entry.name.endswith(".toml")), key=lambda f: f.name)
        if not files:
            raise ConfigurationError(f"no language tables in {place}")
        return cls(_read(file) for file in files)

    @property
    def languages(self) -> tuple[Language, ...]:
        """Every version of every language."""
        return tuple(language for versions in self._by_name.values() for language in versions.values())

    @property
    def names(self) -> tuple[str, ...]:
        """The names that a submission may give."""
        return tuple(self._by_name)

    @property
    def images(self) -> tuple[str, ...]:
        """The images of all languages, each once, without the operator's prefix."""
        return tuple(dict.fromkeys(language.image for language in self.languages))

    @property
    def interpreters(self) -> Mapping[str, RunStep]:
        """What to start once in each container, by image, for languages whose tests are forked from it.

        The command is that of the default memory limit. Where the limit is part of the command, tests with another
        one are started one by one.
        """
        return {
            language.image: _at_default_memory(language) for language in self.languages if language.run.mode == "warm"
        }

    def versions(self, name: str) -> tuple[str, ...]:
        """The versions of a language, in order."""
        return tuple(self._by_name[name])

    def resolve(self, name: str, version: str | None = None) -> Language:
        """The language of that name or alias; without a version its default. Raises RejectedError."""
        versions = self._by_name.get(self.canonical(name))
        if versions is None:
            raise RejectedError("unknown_language", f"no language {name!r}; known: {', '.join(self.names)}", "language")
        if not version:
            return self._default[self.canonical(name)]
        if version not in versions:
            text = f"no version {version!r} of {name}; installed: {', '.join(versions)}"
            raise RejectedError("unknown_version", text, "version")
        return versions[version]

    def resolve_original(self, name: str, version: str | None = None) -> Language:
        """The language for a name and version of the original evalX, or of our own. Raises RejectedError."""
        wanted = f"{name} {version}" if version else name
        replacement = self._replaced.get(wanted.lower())
        return replacement if replacement is not None else self.resolve(name, version)

    def canonical(self, name: str) -> str:
        """The name behind an alias such as `c++`; any other text is returned as it is."""
        return self._aliases.get(name.lower(), name)

    def of_file(self, file_name: str) -> str | None:
        """The name of the language that a source file's extension stands for."""
        return self._extensions.get(file_name.rpartition(".")[2].lower())

    def rules(self, settings: Settings) -> Rules:
        """What `decode_submission` checks submissions against."""
        return Rules(
            languages=MappingProxyType(
                {name: LanguageRule(self._default[name].version, self.versions(name)) for name in self.names}
            ),
            max_code_bytes=settings.max_code_bytes,
            max_tests=settings.max_tests,
            max_limits=Limits(
                cpu_time_ms=settings.max_cpu_time_ms,
                wall_time_ms=settings.max_wall_time_ms,
                memory_bytes=settings.max_memory_bytes,
                output_bytes=settings.max_output_bytes,
                processes=settings.max_processes,
            ),
        )

    def _collect_replaced(self) -> Mapping[str, Language]:
        found: dict[str, Language] = {}
        for language in self.languages:
            for wanted in language.replaces:
                name, _, version = wanted.partition(" ")
                installed = self._by_name.get(self.canonical(name), {})
                if found.setdefault(wanted, language) is not language or version in installed:
                    raise ConfigurationError(f"{wanted!r} of {language.name} {language.version} is taken already")
        return found

    def _collect(self, attribute: str) -> Mapping[str, str]:
        """Other words for languages, by word; two languages cannot have the same."""
        found: dict[str, str] = {}
        for language in self.languages:
            for word in getattr(language, attribute):
                taken = found.setdefault(word, language.name)
                if taken != language.name or (attribute == "aliases" and word in self._by_name):
                    raise ConfigurationError(f"{word!r} of {language.name} {language.version} is taken already")
        return found


def _at_default_memory(language: Language) -> RunStep:
    return msgspec.structs.replace(language.run, argv=language.run_argv(Limits().memory_bytes))


def _default(versions: Mapping[str, Language]) -> Language:
    chosen = [language for language in versions.values() if language.default]
    if len(chosen) != 1:
        name = next(iter(versions.values())).name
        raise ConfigurationError(f"{name} has {len(chosen)} default versions, exactly one is needed")
    return chosen[0]


def _read(file: Traversable) -> Language:
    try:
        return msgspec.convert(tomllib.loads(file.read_text(encoding="utf-8")), Language)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{file}: not TOML: {error}") from None
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{file}: {error}") from None
