"""What of the bench of the caches can be checked without measuring: batches, figures, the report, options."""

from __future__ import annotations

import msgspec
import pytest

from bench import cache
from bench.load import BATCH_BYTES, TESTS, Batch, make_batch
from evalx.languages import Registry
from evalx.messages import Submission, decode_submission
from evalx.settings import Settings


def submission_of(batch: Batch) -> Submission:
    return decode_submission(b'{"id":"x",' + make_batch(batch, "use"), Registry.load().rules(Settings()))


def test_batches_are_what_the_report_says():
    rules = Registry.load().rules(Settings())
    one, other = (b'{"id":"x",' + make_batch(Batch(number), "use") for number in (1, 2))
    assert one != other
    assert submission_of(Batch(1, variant=1)).code != submission_of(Batch(1)).code == submission_of(Batch(2)).code
    assert abs(len(one) - BATCH_BYTES) < 100
    submission = decode_submission(one, rules)
    assert (len(submission.tests), submission.cache) == (TESTS, "use")
    assert msgspec.json.decode(b"{" + make_batch(Batch(1), "refresh"))["cache"] == "refresh"


def test_the_median_decides():
    assert cache._below("p50", "ms", [9.0, 8.0, 99.0], 10.0).holds
    assert not cache._below("p50", "ms", [9.0, 11.0, 99.0], 10.0).holds
    assert cache._above("rate", "/s", [900.0, 1000.0, 1100.0], 1000.0).holds
    assert not cache._above("rate", "/s", [900.0, 999.0, 1100.0], 1000.0).holds


def test_the_report_has_every_run_and_what_failed():
    figures = [cache._below("p50", "ms", [1.25, 2.5, 3.0], 10.0), cache._above("rate", "/s", [10.0, 1234.5], 1000.0)]
    text = cache.as_markdown({"commit": "abc"}, figures)
    assert "1.25 2.5 3" in text
    assert "10 1,234" in text
    assert text.count("**FAIL**") == 1


@pytest.mark.parametrize("wrong", [["--repeats", "0"], ["--batches", "many"], ["--colour"]])
def test_wrong_usage_says_so(wrong: list[str]):
    with pytest.raises(SystemExit):
        cache.parse(wrong)
