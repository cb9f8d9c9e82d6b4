"""The languages that evalx judges: a registry over one TOML file per language version."""

from evalx.languages.registry import CompileStep, Language, Memory, Registry, RunStep

__all__ = ["CompileStep", "Language", "Memory", "Registry", "RunStep"]
