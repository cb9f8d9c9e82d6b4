"""Compares what a program printed with what was expected.

Everything is bytes: an output need not be text. White space is the six ASCII characters space, tab, line feed, carriage
return, vertical tab and form feed; a line ends at a line feed. All checkers take linear time, and compare block by
block, so that a long output never becomes millions of objects at once.

`floats`: a token is a number if it is a decimal number with optional sign, fraction and exponent (`1e5`, `.5`,
`+3.`), or one of `inf`, `infinity`, `nan` in any case, with optional sign. Two numbers agree if, as doubles, they
differ by at most `abs_tol`, or by at most `rel_tol` times the expected one. `nan` agrees with `nan` only, an infinity
only with itself: an infinite tolerance around it would accept anything. All other tokens compare as text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest

from evalx.messages import Checker, ExactChecker, FloatsChecker, LinesChecker, TokensChecker

# 64 KiB: some 10,000 tokens at a time. Larger brings no speed, smaller costs calls.
_BLOCK_BYTES = 64 * 1024
_LINE_FEED = re.compile(rb"\n")
_SPACE = re.compile(rb"[ \t\n\r\v\f]")
_NUMBER = re.compile(rb"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf(?:inity)?|nan)", re.IGNORECASE)


def compare(checker: Checker, expected: str | bytes, actual: bytes) -> bool:
    """Whether an output is right. Text is compared in UTF-8."""
    wanted = expected.encode() if isinstance(expected, str) else expected
    if wanted == actual:
        return True
    match checker:
        case ExactChecker():
            return False
        case LinesChecker():
            return _lines_agree(wanted.rstrip(), actual.rstrip())
        case TokensChecker():
            return _same(_tokens(_folded(checker, wanted)), _tokens(_folded(checker, actual)))
        case FloatsChecker():
            return _floats_agree(checker, _folded(checker, wanted), _folded(checker, actual))


def _folded(checker: TokensChecker | FloatsChecker, data: bytes) -> bytes:
    # Only ASCII: bytes need not be text. Numbers mean the same in lower case.
    return data.lower() if checker.ignore_case else data


def _lines_agree(expected: bytes, actual: bytes) -> bool:
    """Of outputs without white space at their ends, which has already dealt with trailing empty lines."""
    return expected == actual or _same(_lines(expected), _lines(actual))


def _lines(data: bytes) -> Iterator[bytes]:
    for block in _blocks(data, _LINE_FEED):
        yield from map(bytes.rstrip, block.split(b"\n"))


def _tokens(data: bytes) -> Iterator[bytes]:
    return chain.from_iterable(map(bytes.split, _blocks(data, _SPACE)))


def _blocks(data: bytes, separator: re.Pattern[bytes]) -> Iterator[bytes]:
    """The data in pieces that are cut at a separator, which belongs to neither side."""
    start = 0
    while cut := separator.search(data, start + _BLOCK_BYTES):
        yield data[start : cut.start()]
        start = cut.end()
    yield data[start:]


def _same(expected: Iterable[bytes], actual: Iterable[bytes]) -> bool:
    return all(a == b for a, b in zip_longest(expected, actual))


def _floats_agree(checker: FloatsChecker, expected: bytes, actual: bytes) -> bool:
    return all(
        a == b or (a is not None and b is not None and _near(checker, a, b))
        for a, b in zip_longest(_tokens(expected), _tokens(actual))
    )


def _near(checker: FloatsChecker, expected: bytes, actual: bytes) -> bool:
    if not (_NUMBER.fullmatch(expected) and _NUMBER.fullmatch(actual)):
        return False
    wanted, got = float(expected), float(actual)
    if math.isnan(wanted) or math.isnan(got):
        return math.isnan(wanted) and math.isnan(got)
    if math.isinf(wanted) or math.isinf(got):
        return wanted == got
    difference = abs(wanted - got)
    return difference <= checker.abs_tol or difference <= checker.rel_tol * abs(wanted)
