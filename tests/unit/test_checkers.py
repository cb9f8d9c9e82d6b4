import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evalx.messages import Checker, ExactChecker, FloatsChecker, LinesChecker, TokensChecker
from evalx.sandbox.checkers import _BLOCK_BYTES, compare

EXACT, LINES, TOKENS, FLOATS = ExactChecker(), LinesChecker(), TokensChecker(), FloatsChecker()
ALL: list[Checker] = [EXACT, LINES, TOKENS, FLOATS]


def kind(checker: Checker) -> str:
    return checker.kind


@pytest.mark.parametrize(
    ("expected", "actual", "exact", "lines", "tokens"),
    [
        (b"", b"", True, True, True),
        (b"3\n", b"3\n", True, True, True),
        (b"3\n", b"3", False, True, True),
        (b"3\n", b"3 \t\r\n\n \n", False, True, True),
        (b"", b" \n\n", False, True, True),
        (b"1\n2\n", b"1\r\n2\r\n", False, True, True),
        (b"1\n2\n", b"1   \n2\n", False, True, True),
        (b"1\n2\n", b" 1\n2\n", False, False, True),
        (b"1 2\n", b"1  2\n", False, False, True),
        (b"1 2\n", b"1\n2\n", False, False, True),
        (b"1\n2\n", b"1\n\n2\n", False, False, True),
        (b"1\n", b"\n1\n", False, False, True),
        (b"12\n", b"1 2\n", False, False, False),
        (b"1 2\n", b"1\n", False, False, False),
        (b"1\n", b"1 2\n", False, False, False),
        (b"1\n", b"", False, False, False),
        (b"a\n", b"A\n", False, False, False),
        (b"1\n", b"1.0\n", False, False, False),
        (b"\xff\x00 x\n", b"\xff\x00 x", False, True, True),
        (b"a\x0bb\x0cc", b"a b c", False, False, True),
        ("\u00a0a\n".encode(), b"a\n", False, False, False),
        ("a\u2003\n".encode(), b"a\n", False, False, False),
    ],
)
def test_exact_lines_tokens(expected: bytes, actual: bytes, exact: bool, lines: bool, tokens: bool):
    assert [compare(checker, expected, actual) for checker in (EXACT, LINES, TOKENS)] == [exact, lines, tokens]


def test_expected_text_is_compared_in_utf8():
    for checker in ALL:
        assert compare(checker, "é", "é".encode())
        assert not compare(checker, "é", "é".encode("latin-1"))


@pytest.mark.parametrize(
    ("expected", "actual", "same"),
    [
        (b"1e5", b"100000", True),
        (b"100000", b"1E+05", True),
        (b"0.5", b".5", True),
        (b"3", b"+3.", True),
        (b"-0", b"0", True),
        (b"1.0000001", b"1", True),
        (b"1.00001", b"1", False),
        (b"0", b"0.000001", True),
        (b"0", b"0.0000011", False),
        (b"1000000000", b"1000000999", True),
        (b"1000000000", b"1000001001", False),
        (b"yes 1.0", b"yes 1", True),
        (b"yes 1.0", b"Yes 1", False),
        (b"1 2", b"1", False),
        (b"1", b"1 2", False),
        (b"1", b"one", False),
        (b"nan", b"NaN", True),
        (b"nan", b"-nan", True),
        (b"nan", b"1", False),
        (b"1", b"nan", False),
        (b"inf", b"Infinity", True),
        (b"inf", b"+INF", True),
        (b"inf", b"-inf", False),
        (b"inf", b"1e308", False),
        (b"1e308", b"inf", False),
        (b"1e999", b"inf", True),
        (b"-1e308", b"1e308", False),
        (b"1000", b"1_000", False),
        (b"16", b"0x10", False),
        (b"1", "\u0661".encode(), False),
        (b"1e", b"1", False),
        (b".", b"0", False),
        (b"1", b"1\x00", False),
        (b"1.5 2.5\n3.5", b"1.5\n2.5 3.5", True),
    ],
)
def test_floats(expected: bytes, actual: bytes, same: bool):
    assert compare(FLOATS, expected, actual) is same


def test_either_tolerance_is_enough_and_both_are_inclusive():
    assert compare(FloatsChecker(abs_tol=0.5, rel_tol=0), b"1", b"1.5")
    assert not compare(FloatsChecker(abs_tol=0.5, rel_tol=0), b"1", b"1.51")
    assert compare(FloatsChecker(abs_tol=0, rel_tol=0.5), b"-4", b"-6")
    assert not compare(FloatsChecker(abs_tol=0, rel_tol=0.5), b"4", b"6.1")
    # Relative to the expected number, not to the larger one.
    assert not compare(FloatsChecker(abs_tol=0, rel_tol=0.5), b"4", b"7")
    exactly = FloatsChecker(abs_tol=0, rel_tol=0)
    assert compare(exactly, b"0.10", b"0.1")
    assert not compare(exactly, b"0.1", b"0.10000001")


def test_a_wide_tolerance_never_reaches_infinity():
    assert not compare(FloatsChecker(abs_tol=1e308, rel_tol=1e308), b"inf", b"1")
    assert not compare(FloatsChecker(abs_tol=1e308, rel_tol=1e308), b"1", b"-inf")


@pytest.mark.parametrize("checker", ALL, ids=kind)
@given(data=st.binary())
def test_an_output_agrees_with_itself(checker: Checker, data: bytes):
    assert compare(checker, data, data)
    assert compare(checker, data, bytes(bytearray(data)))


@pytest.mark.parametrize("checker", ALL, ids=kind)
@given(a=st.binary(), b=st.binary())
def test_checkers_are_symmetric_and_ordered_by_strictness(checker: Checker, a: bytes, b: bytes):
    assert compare(checker, a, b) == compare(checker, b, a)
    if compare(LINES, a, b):
        assert compare(TOKENS, a, b)
    if compare(TOKENS, a, b):
        assert compare(FLOATS, a, b)


spaces = st.text(" \t\r\v\f", max_size=3).map(str.encode)
words = st.binary(min_size=1, max_size=4).filter(lambda word: len(word.split()) == 1 and word.split()[0] == word)


@given(lines=st.lists(st.tuples(words, spaces)), tail=st.text(" \n\t", max_size=5).map(str.encode))
def test_lines_ignores_what_it_should(lines: list[tuple[bytes, bytes]], tail: bytes):
    clean = b"\n".join(word for word, _ in lines)
    assert compare(LINES, clean, b"\n".join(word + space for word, space in lines) + tail)


@given(tokens=st.lists(st.tuples(words, st.text(" \t\r\v\f\n", min_size=1, max_size=3).map(str.encode))))
def test_tokens_ignores_what_it_should(tokens: list[tuple[bytes, bytes]]):
    clean = b" ".join(word for word, _ in tokens)
    assert compare(TOKENS, clean, b"".join(word + space for word, space in tokens))


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 1e9),
    st.floats(0, 1),
)
def test_floats_agrees_with_the_definition(wanted: float, got: float, abs_tol: float, rel_tol: float):
    checker = FloatsChecker(abs_tol=abs_tol, rel_tol=rel_tol)
    same = abs(wanted - got) <= abs_tol or abs(wanted - got) <= rel_tol * abs(wanted)
    assert compare(checker, repr(wanted), repr(got).encode()) == same
    assert math.isfinite(wanted)


def naive(checker: Checker, a: bytes, b: bytes) -> bool:
    if isinstance(checker, LinesChecker):
        return [x.rstrip() for x in a.rstrip().split(b"\n")] == [x.rstrip() for x in b.rstrip().split(b"\n")]
    return a.split() == b.split()


@pytest.mark.parametrize("checker", [LINES, TOKENS], ids=kind)
@pytest.mark.parametrize("shift", range(-2, 3))
@pytest.mark.parametrize("edge", [b" ", b"\n", b" \n", b"\n ", b"\r\n", b"\n\n", b"", b"x"])
def test_the_borders_of_blocks_are_not_seen(checker: Checker, shift: int, edge: bytes):
    a = b"y" * (_BLOCK_BYTES + shift) + edge + b"z\n" * _BLOCK_BYTES
    for b in (a.replace(b"\n", b" \n"), a.replace(edge, b"", 1) if edge else a, a + b"w", a[:-3]):
        assert compare(checker, a, b) == naive(checker, a, b)


HUGE = 4 * 1024 * 1024


@pytest.mark.parametrize("checker", [LINES, TOKENS, FLOATS], ids=kind)
@pytest.mark.parametrize(
    "unit",
    [b"1 ", b"1\n", b" ", b"\n", b" \n", b"\t \r", b"1", b"0.123456789 ", b"1e5\n\n"],
    ids=repr,
)
def test_huge_outputs_take_linear_time(checker: Checker, unit: bytes):
    data = unit * (HUGE // len(unit))
    start = time.perf_counter()
    # Differs in its last place only, so that nothing is cut short.
    compare(checker, data + b"7", data + b"8 ")
    # A quadratic way through 4 MiB takes hours; the linear one is measured at 0.01 to 3 s.
    assert time.perf_counter() - start < 30


def test_case_is_ignored_on_request():
    for checker in (TokensChecker(ignore_case=True), FloatsChecker(ignore_case=True)):
        assert compare(checker, b"YES Impossible", b"yes  IMPOSSIBLE\n")
        assert not compare(checker, b"yes", b"no")
        assert not compare(checker, "\u00c4".encode(), "\u00e4".encode())
    assert compare(FloatsChecker(ignore_case=True), b"Case 1: 0.5E3", b"case 1: 500.0")
    for checker in (TokensChecker(), FloatsChecker()):
        assert not compare(checker, b"YES", b"yes")
