"""Bytes that are no text, and odd texts, on every way in and out: source, stdin, output, expected output, ids."""

from __future__ import annotations

import base64
import itertools
import json

import pytest
from proving_ground import ProvingGround, ground

from evalx.errors import RejectedError
from evalx.messages import TestCase, decode_result, decode_submission, encode_result
from evalx.settings import Settings
from evalx.verdicts import Verdict

__all__ = ["ground"]

MIB = 1 << 20
CAT_IN_C = """
#include <unistd.h>
static char block[65536];
int main(void) {
    for (ssize_t n; (n = read(0, block, sizeof block)) > 0;)
        for (ssize_t at = 0, done; at < n && (done = write(1, block + at, (size_t)(n - at))) > 0;)
            at += done;
    return 0;
}
"""
CAT_IN_PYTHON = "import sys; sys.stdout.buffer.write(sys.stdin.buffer.read())"
CAT_IN_JAVA = (
    "public class Main { public static void main(String[] a) throws Exception { System.in.transferTo(System.out); } }"
)
CATS = {"c": CAT_IN_C, "python": CAT_IN_PYTHON, "java": CAT_IN_JAVA}

TEXTS = {
    "NUL": "a\0b\0",
    "every control character": "".join(map(chr, range(32))) + "\x7f\x80\x9f",
    "beyond the basic plane": "😀\U0010ffff\ufeff\ufffe",
    "line separators": "a\u2028b\u2029c\x85d\r\ne\rf",
    "combining and right to left": "e\u0301\u202eabc\u202c",
    "nothing": "",
    "no end of line": "x",
    "only ends of lines": "\n" * 1000,
}

NO_TEXTS = {
    "0xff": b"\xff",
    "a cut character": b"abc\xe2\x82",
    "a surrogate": b"\xed\xa0\x80",
    "overlong": b"\xc0\x80",
    "beyond Unicode": b"\xf4\x90\x80\x80",
    "every byte": bytes(range(256)),
}

ODD_IDS = [
    "\0",
    "\n",
    " ",
    "😀" * 128,
    "../../etc/passwd",
    "'; DROP TABLE tests; --",
    "\u202e",
    "${jndi:ldap://x}",
    "%s%n",
]


@pytest.mark.parametrize("runs", [1, 2])
@pytest.mark.parametrize("language", CATS)
@pytest.mark.parametrize("name", TEXTS)
async def test_a_text_comes_back_as_it_was(ground: ProvingGround, language: str, name: str, runs: int):
    text = TEXTS[name]
    judged = await ground.strike(language, CATS[language], runs=runs, stdin=text, expected=text)
    assert judged.verdicts == [Verdict.AC] * runs
    assert [(test.stdout, test.encoding) for test in judged.tests] == [(text, "utf-8")] * runs


@pytest.mark.parametrize("runs", [1, 3])
async def test_a_run_that_is_started_again_reads_its_input_again(ground: ProvingGround, runs: int):
    """A forked test that creates a process runs again by exec: what it read is there again, what it wrote is gone."""
    code = CAT_IN_C.replace("return 0;", "if (fork() == 0) _exit(0); return 0;")
    judged = await ground.strike("c", code, runs=runs, stdin="text\n", expected="text\n")
    assert judged.verdicts == [Verdict.AC] * runs
    assert [test.stdout for test in judged.tests] == ["text\n"] * runs


@pytest.mark.parametrize("stream", [1, 2])
@pytest.mark.parametrize("name", NO_TEXTS)
async def test_what_is_no_text_comes_as_base64(ground: ProvingGround, name: str, stream: int):
    data = NO_TEXTS[name]
    values = ",".join(map(str, data))
    code = f"#include <unistd.h>\nint main(void) {{ unsigned char a[] = {{{values}}}; write({stream}, a, sizeof a);"
    judged = await ground.strike("c", code + f'write({3 - stream}, "text", 4); return 0; }}', runs=2)
    for test in judged.tests:
        assert (test.verdict, test.encoding) == (Verdict.OK, "base64")
        out, err = base64.b64decode(test.stdout), base64.b64decode(test.stderr)
        assert (out, err) == ((data, b"text") if stream == 1 else (b"text", data))


@pytest.mark.parametrize("name", NO_TEXTS)
async def test_what_is_no_text_is_no_right_answer(ground: ProvingGround, name: str):
    """U+FFFD in the expected output must not match bytes that only a lenient decoder turns into it."""
    values = ",".join(map(str, NO_TEXTS[name]))
    code = f"import sys; sys.stdout.buffer.write(bytes([{values}]))"
    expected = NO_TEXTS[name].decode("utf-8", "replace")
    judged = await ground.strike("python", code, expected=expected)
    assert judged.verdicts == [Verdict.WA]


@pytest.mark.parametrize("language", CATS)
async def test_a_line_of_7_mb(ground: ProvingGround, language: str):
    line = "x" * (7 * MIB)
    judged = await ground.strike(language, CATS[language], stdin=line, expected=line, output_bytes=8 * MIB)
    assert judged.verdicts == [Verdict.AC]
    assert judged.tests[0].stdout == line


@pytest.mark.parametrize("language", CATS)
async def test_a_line_of_10_mb_is_read_whole_and_too_much_to_print(ground: ProvingGround, language: str):
    line = "x" * (10 * MIB)
    judged = await ground.strike(language, CATS[language], stdin=line, expected=line, output_bytes=8 * MIB)
    assert judged.verdicts == [Verdict.OLE]
    assert (len(judged.tests[0].stdout), judged.tests[0].stdout_truncated) == (8 * MIB, True)


async def test_a_line_of_10_mb_is_compared(ground: ProvingGround):
    """An expected output that no program may print is simply wrong."""
    judged = await ground.strike("c", CAT_IN_C, stdin="x", expected="x" * (10 * MIB))
    assert judged.verdicts == [Verdict.WA]


async def test_odd_ids_of_tests_come_back(ground: ProvingGround):
    tests = tuple(TestCase(id=name, stdin=name, expected_output=name) for name in ODD_IDS)
    judged = await ground.engine.judge(ground.submission("c", CAT_IN_C, tests))
    assert [(test.id, test.verdict) for test in judged.tests] == [(name, Verdict.AC) for name in ODD_IDS]


async def test_what_comes_out_is_valid_json(ground: ProvingGround):
    """With all that is odd in one result."""
    odd = "".join(itertools.chain(*TEXTS.values()))
    submission = ground.submission("python", CAT_IN_PYTHON, (TestCase(id=odd[:128], stdin=odd, expected_output=odd),))
    judged = await ground.engine.judge(submission)
    raw = encode_result(judged.result(submission, lane="high", worker="w"))
    assert json.loads(raw)["tests"][0]["stdout"] == odd
    assert decode_result(raw).tests[0].stdout == odd


@pytest.mark.parametrize("place", ["code", "id", "language", "stdin", "expected_output", "metadata", "test_id"])
@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800", "a\\udc00b"])
def test_half_a_character_is_rejected_or_taken_whole(ground: ProvingGround, place: str, text: str):
    """JSON can name a lone surrogate, which is no text and cannot be sent on."""
    parts = dict.fromkeys(["code", "id", "language", "stdin", "expected_output", "metadata", "test_id"], "x")
    parts |= {"language": "c", place: text}
    raw = (
        '{{"id": "{id}", "language": "{language}", "code": "{code}", "metadata": {{"k": "{metadata}"}}, "tests": '
        '[{{"id": "{test_id}", "stdin": "{stdin}", "expected_output": "{expected_output}"}}]}}'
    ).format(**parts)
    with pytest.raises(RejectedError):
        decode_submission(raw.encode(), ground.registry.rules(Settings()))
