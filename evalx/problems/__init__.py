"""A problem on disk: a directory of tests, or a problem package; a source file with it becomes a submission."""

from evalx.problems.directory import language_of, load_tests, make_submission, natural, parse_size
from evalx.problems.package import Package, load_package, too_large

__all__ = [
    "Package",
    "language_of",
    "load_package",
    "load_tests",
    "make_submission",
    "natural",
    "parse_size",
    "too_large",
]
