"""The gateway's routes with a Kafka and a Redis that are dictionaries."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import msgspec
import pytest
from gateway_scene import CODE, NATIVE, ONE, Scene
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from evalx.cache.progress import Progress
from evalx.errors import JudgeFaultError, RejectedError, RequestError
from evalx.gateway import openapi
from evalx.gateway.app import Gateway
from evalx.messages import (
    CompileReport,
    Result,
    Submission,
    TestResult,
    decode_result,
    judge_error_result,
    rejected_result,
)
from evalx.testing import FakeShelf, accepted
from evalx.verdicts import Verdict

JSON = {"content-type": "application/json; charset=utf-8"}


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(**getattr(request, "param", {}))
    with scene.client:
        yield scene


def configured(**settings: Any) -> Any:
    return pytest.mark.parametrize("scene", [settings], indirect=True, ids=[""])


UNANSWERED = configured(judge=None)


def compile_error(submission: Submission) -> Result:
    report = CompileReport(exit_code=1, output="main.c:1: error", wall_time_ms=20.0)
    plain = msgspec.structs.replace(accepted(submission), tests=(), verdict=Verdict.CE, compile=report)
    return msgspec.structs.replace(plain, status="compile_error")


def rejected(submission: Submission) -> Result:
    return rejected_result(submission.id, RejectedError("conflict", "used before"), lane="normal", worker="w")


def killed(submission: Submission) -> Result:
    test = TestResult(
        id="1", verdict=Verdict.TLE, signal=9, wall_time_ms=2500.0, peak_memory_bytes=3670016,
        stdout="/w==", encoding="base64",
    )  # fmt: skip
    return msgspec.structs.replace(accepted(submission), tests=(test,), verdict=Verdict.TLE)


def test_health_says_whether_submissions_are_taken(scene: Scene):
    assert scene.client.get("/health").json() == {"status": "ok", "waiting": 0}
    assert scene.client.get("/readyz").status_code == scene.client.get("/livez").status_code == 200
    assert "evalx_gateway_requests_total" in scene.client.get("/metrics").text


def test_a_native_submission_gets_an_id_and_its_result(scene: Scene):
    answer = scene.post(
        "/v1/submissions?wait=5&priority=high", NATIVE, headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    )
    assert answer.status_code == 200
    result = decode_result(answer.content)
    assert answer.headers["location"] == f"/v1/submissions/{result.id}"
    assert decode_result(scene.client.get(answer.headers["location"]).content) == result
    ((partition, submission, headers),) = scene.wire.sent
    assert partition in range(4)
    assert (submission.version, submission.limits.wall_time_ms, len(submission.id)) == ("3.13", 7000, 32)
    assert headers["traceparent"].startswith(b"00-aaaa")
    assert headers["evalx-progress"] == b"1"


@UNANSWERED
def test_an_unanswered_submission_is_queued_then_processing(scene: Scene):
    answer = scene.post("/v1/submissions?wait=0.01", NATIVE | {"id": "s-1"})
    assert (answer.status_code, answer.json()) == (202, {"id": "s-1", "status": "queued"})
    assert scene.client.get("/submissions/s-1").json()["status"] == "Queued"
    scene.run(scene.gateway.hub.hear, "s-1", Progress(started=True))
    assert scene.client.get("/submissions/s-1").json()["status"] == "Processing"
    scene.run(scene.wire.answer, accepted(scene.wire.sent[0][1]))
    assert scene.client.get("/submissions/s-1").json()["status"] == "Completed"


@pytest.mark.parametrize(
    ("changes", "status", "message"),
    [
        ({"code": None}, 400, "code: expected a text, got null"),
        ({"language": "pyhton"}, 400, "language: no language 'pyhton' (did you mean 'python'?)"),
        ({"version": "2"}, 400, "version: no version '2' of python; installed: 3.13"),
        ({"stdin": "x"}, 400, "stdin: no field of this name"),
        ({"limits": {"cpu_time_ms": 10**9}}, 400, "limits.cpu_time_ms: 1000000000 is over the maximum of 30000"),
        ({"id": "a b"}, 400, "id: 'a b' is not 1 to 128 of"),
        ({"code": "x" * 300_000}, 413, "code: 300000 bytes in UTF-8, at most 262144 are allowed"),
        ({"callback_url": 1}, 400, "callback_url: expected a text"),
        ({"callback_url": "http://example.org"}, 400, "callback_url: this gateway sends no webhooks"),
    ],
)
def test_what_cannot_be_judged_is_refused_at_once(scene: Scene, changes: dict[str, Any], status: int, message: str):
    answer = scene.post("/v1/submissions", NATIVE | changes)
    assert answer.status_code == status
    assert answer.json()["error"].startswith(message)
    assert scene.wire.sent == []


@pytest.mark.parametrize("path", ["/v1/submissions", "/execute", "/execute-batch", "/execute-parallel"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"7", b'{"a": "\\ud800"}', b"[" * 5000, b"[]", b"[1]", b"{}"])
def test_no_body_is_too_odd_for_a_400(scene: Scene, path: str, body: bytes):
    answer = scene.client.post(path, content=body, headers=JSON)
    assert answer.status_code == 400
    assert answer.json()["error"]


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_what_a_page_of_another_origin_could_send_is_refused(scene: Scene, kind: str | None):
    answer = scene.client.post("/execute", content=b"{}", headers={"content-type": kind} if kind else {})
    assert (answer.status_code, answer.json()["error"][:4]) == (415, "JSON")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/nothing", 404),
        ("/execute", 405),
        ("/submissions/none", 404),
        ("/v1/submissions/none", 404),
        ("/v1/submissions/none/events", 404),
    ],
)
def test_what_is_not_there_says_so(scene: Scene, path: str, status: int):
    answer = scene.client.get(path)
    assert answer.status_code == status
    assert answer.json()["error"]


@pytest.mark.parametrize("query", ["wait=x", "wait=-1", "wait=nan", "wait=301", "priority=urgent"])
def test_wrong_queries_are_refused(scene: Scene, query: str):
    answer = scene.post(f"/execute?{query}", ONE)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(query.partition("=")[0])


def test_one_execution_of_the_original(scene: Scene):
    answer = scene.post("/execute?wait=5", ONE | {"version": "3.9", "timeout": 1.5, "memory_limit": "512m", "other": 1})
    token = scene.wire.sent[0][1].id
    row = {
        "compile_time": None, "stdout": "1", "stderr": None, "exit_code": 0, "run_time": 0.0,
        "space_consumed": "0 KB", "verdict": "OK",
    }  # fmt: skip
    assert answer.json() == {
        "token": token, "status": "Completed", "results": [row], "language": "python", "version": "3.13"
    }  # fmt: skip
    limits = scene.wire.sent[0][1].limits
    assert (limits.cpu_time_ms, limits.wall_time_ms, limits.memory_bytes) == (1500, 5500, 512 << 20)


@pytest.mark.parametrize(
    ("asked", "runs"),
    [
        (("java21", None), ("java", "21")), (("java", "17"), ("java", "21")), (("java", "25"), ("java", "25")),
        (("c", "11"), ("c", "17")), (("cpp", "11"), ("cpp", "17")), (("C++", "20"), ("cpp", "20")),
        (("python", "3.9"), ("python", "3.13")), (("node", None), ("javascript", "20")),
    ],
)  # fmt: skip
def test_languages_of_the_original_run_on_what_is_installed(
    scene: Scene, asked: tuple[str, str | None], runs: tuple[str, str]
):
    answer = scene.post("/execute", ONE | {"language": asked[0], "version": asked[1]}).json()
    assert (answer["language"], answer["version"]) == runs
    assert (scene.wire.sent[0][1].language, scene.wire.sent[0][1].version) == runs


@UNANSWERED
def test_a_batch_is_one_submission(scene: Scene):
    same = {"language": "c++", "code": CODE, "timeout": 1}
    items = [same | {"language": "cpp"}, {"stdin": "2"}, same | {"stdin": "3"}, {"version": None, "stdin": None}]
    for path in ("/execute-batch", "/execute/batch"):
        answer = scene.post(path, items).json()
        assert (answer["status"], answer["results"]) == ("Queued", None)
        _, submission, _ = scene.wire.sent.pop()
        assert [test.stdin for test in submission.tests] == ["", "2", "3", ""]
        assert submission.limits.cpu_time_ms == 1000


@pytest.mark.parametrize(
    ("items", "message"),
    [
        ([ONE, {"language": "c"}], "[1].language: differs from the first one's"),
        ([ONE, {}, {"code": "x"}], "[2].code: differs"),
        ([ONE | {"language": "java"}, {"version": "25"}], "[1].version: differs"),
        ([ONE, {"language": "x"}], "[1].language: no language 'x'"),
        ([{"stdin": "1"}], "[0].language: the first one is the template"),
        ([{"language": "c"}], "[0].code: the first one is the template"),
        ([ONE, {"stdin": 1}], "[1].stdin: expected a text"),
        ([ONE | {"timeout": 0}], "[0].timeout: a number of seconds above 0"),
        ([ONE | {"timeout": 99}], "[0].limits.cpu_time_ms: 99000 is over the maximum"),
        ([ONE | {"memory_limit": "lots"}], "[0].memory_limit: 'lots' is not a size"),
        ([ONE] * 1001, "[0].tests: 1001 tests"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_together_is_refused_with_the_index(scene: Scene, items: Any, message: str):
    answer = scene.post("/execute-batch", items)
    assert answer.status_code == 400
    assert answer.json()["error"].startswith(message)
    assert scene.wire.sent == []


def test_unrelated_requests_are_answered_in_order(scene: Scene):
    rows = scene.post("/execute-parallel", [ONE, ONE | {"language": "java21", "stdin": "2"}]).json()
    assert [(row["stdout"], row["language"], row["status"]) for row in rows] == [
        ("1", "python", "Completed"), ("2", "java", "Completed"),
    ]  # fmt: skip
    answer = scene.post("/execute-parallel", [ONE, ONE | {"language": "x"}])
    assert (answer.status_code, answer.json()["error"][:12]) == (400, "[1].language")
    assert scene.post("/execute-parallel", [ONE] * 1001).status_code == 400


@UNANSWERED
def test_who_waits_in_vain_for_many_gets_tokens(scene: Scene):
    (row,) = scene.post("/execute-parallel?wait=0", [ONE]).json()
    assert (row["status"], row["stdout"], row["verdict"]) == ("Queued", None, None)
    assert scene.client.get(f"/submissions/{row['token']}").json()["status"] == "Queued"


@configured(judge=compile_error)
def test_a_compile_error_is_a_row_for_each_test(scene: Scene):
    answer = scene.post("/execute-batch?wait=5", [ONE, {}]).json()
    assert (answer["status"], len(answer["results"])) == ("Completed", 2)
    row = answer["results"][1]
    assert (row["stderr"], row["exit_code"], row["compile_time"], row["verdict"]) == ("main.c:1: error", 1, 0.02, "CE")


@configured(judge=rejected)
def test_what_could_not_be_judged_has_failed(scene: Scene):
    answer = scene.post("/execute?wait=5", ONE).json()
    assert (answer["status"], answer["results"], answer["error"]) == ("Failed", None, "used before")
    (row,) = scene.post("/execute-parallel", [ONE]).json()
    assert (row["status"], row["error"], row["exit_code"]) == ("Failed", "used before", None)


@configured(judge=killed)
def test_a_row_of_a_program_that_was_killed(scene: Scene):
    (row,) = scene.post("/execute?wait=5", ONE).json()["results"]
    assert row == {
        "compile_time": None, "stdout": "\ufffd", "stderr": None, "exit_code": 137, "run_time": 2.5,
        "space_consumed": "3584 KB", "verdict": "TLE",
    }  # fmt: skip


@UNANSWERED
def test_one_id_has_one_content(scene: Scene):
    assert scene.post("/v1/submissions", NATIVE | {"id": "s-1"}).status_code == 202
    answer = scene.post("/v1/submissions", NATIVE | {"id": "s-1", "code": "x"})
    assert (answer.status_code, answer.json()["error"][:8]) == (409, "id 's-1'")
    # A repeat is produced again: what came of the first one may never be known.
    assert scene.post("/v1/submissions", NATIVE | {"id": "s-1"}).status_code == 202
    assert len(scene.wire.sent) == 2
    scene.run(scene.wire.answer, accepted(scene.wire.sent[0][1]))
    assert scene.post("/v1/submissions", NATIVE | {"id": "s-1"}).status_code == 200
    assert len(scene.wire.sent) == 2


def test_a_fault_of_ours_can_be_judged_again(scene: Scene):
    fault = JudgeFaultError("sandbox_fault", "a container died")
    scene.wire.judge = lambda one: judge_error_result(one.id, fault, language="c", version="17", lane="low", worker="w")
    answer = scene.post("/v1/submissions?wait=5", NATIVE | {"id": "s-1"}).json()
    assert (answer["status"], scene.client.get("/submissions/s-1").json()["status"]) == ("judge_error", "Failed")
    scene.wire.judge = None
    assert scene.post("/v1/submissions", NATIVE | {"id": "s-1"}).json()["status"] == "queued"
    scene.run(scene.wire.answer, accepted(scene.wire.sent[0][1]))
    assert scene.post("/v1/submissions", NATIVE | {"id": "s-1"}).json()["status"] == "judged"
    assert len(scene.wire.sent) == 2


def test_what_kafka_does_not_take_was_never_accepted(scene: Scene):
    scene.wire.refusal = RequestError(503, "Kafka does not take submissions now; try again", 5)
    answer = scene.post("/v1/submissions", NATIVE | {"id": "s-1"})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert scene.shelf.entries == {}
    assert scene.client.get("/v1/submissions/s-1").status_code == 404


@configured(judge=None, max_waiting=2)
def test_a_full_queue_says_when_to_come_back(scene: Scene):
    assert [scene.post("/execute", ONE).status_code for _ in range(3)] == [200, 200, 429]
    answer = scene.post("/execute", ONE)
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert "EVALX_MAX_WAITING" in answer.json()["error"]
    scene.run(scene.wire.answer, accepted(scene.wire.sent[0][1]))
    # All or none: the first of the two would have had a place.
    assert scene.post("/execute-parallel?wait=0", [ONE, ONE]).status_code == 429
    assert scene.post("/execute", ONE).status_code == 200


@configured(judge=None, max_waiting=1)
def test_without_redis_the_queue_of_this_gateway_is_bounded_all_the_same(scene: Scene):
    scene.shelf.away = True
    assert [scene.post("/execute", ONE).status_code for _ in range(2)] == [200, 429]


def test_without_redis_own_submissions_are_answered_and_others_not_denied(scene: Scene):
    scene.shelf.away = True
    token = scene.post("/execute?wait=5", ONE).json()["token"]
    assert scene.client.get(f"/submissions/{token}").json()["status"] == "Completed"
    answer = scene.client.get("/submissions/other")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")


@configured(gateway_max_body_bytes=2000)
def test_a_body_over_the_cap_is_refused(scene: Scene):
    answer = scene.post("/execute", ONE | {"stdin": "x" * 3000})
    assert (answer.status_code, answer.json()["error"][:40]) == (413, "the body is larger than the 2000 bytes t")
    assert scene.client.post("/execute", content=iter([b"x"] * 2001), headers=JSON).status_code == 413


def test_requests_have_ids(scene: Scene):
    assert scene.client.get("/health", headers={"x-request-id": "r-1"}).headers["x-request-id"] == "r-1"
    made = scene.client.get("/nothing", headers={"x-request-id": "a b"}).headers["x-request-id"]
    assert len(made) == 16


def test_a_defect_is_a_500_that_can_be_found_in_the_log(scene: Scene):
    scene.wire.refusal = ZeroDivisionError()
    answer = scene.post("/execute", ONE)
    assert answer.status_code == 500
    assert answer.headers["x-request-id"] in answer.json()["error"]


TOKENS = ",".join(
    f"{name}={hashlib.sha256(secret.encode()).hexdigest()}" for name, secret in [("a", "aa"), ("b", "bb")]
)


@configured(gateway_tokens=TOKENS, judge=None, gateway_concurrency=1)
def test_tokens_guard_submissions_and_results(scene: Scene):
    assert scene.client.get("/health").status_code == 200
    for wrong in ({}, {"authorization": "Bearer x"}, {"authorization": "Basic aa"}, {"authorization": "Bearer"}):
        answer = scene.post("/execute", ONE, headers=wrong)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    first, second = ({"authorization": f"Bearer {secret}"} for secret in ("aa", "bb"))
    token = scene.post("/execute", ONE, headers=first).json()["token"]
    assert scene.client.get(f"/submissions/{token}", headers=first).status_code == 200
    assert scene.client.get(f"/submissions/{token}", headers=second).status_code == 404
    assert scene.post("/execute", ONE, headers=first).status_code == 429
    assert scene.post("/v1/submissions", NATIVE | {"id": token}, headers=second).status_code == 409
    assert scene.post("/execute", ONE, headers=second).status_code == 200


def test_other_origins_are_not_let_in_unless_they_are_named(scene: Scene):
    origin = {"origin": "https://judge.example", "access-control-request-method": "POST"}
    assert "access-control-allow-origin" not in scene.client.options("/execute", headers=origin).headers
    with Scene(gateway_cors_origins="https://judge.example").client as client:
        allowed = client.options("/execute", headers=origin).headers["access-control-allow-origin"]
        assert allowed == "https://judge.example"


def test_what_a_gateway_left_is_answered_by_the_next_one():
    first = Scene(judge=None)
    with first.client:
        first.post("/v1/submissions", NATIVE | {"id": "s-1"})
        first.post("/v1/submissions", NATIVE | {"id": "s-2"})
    second = Scene(judge=None)
    second.shelf = FakeShelf(name="g-2", shared=first.shelf)
    second.wire.history = [accepted(first.wire.sent[0][1])]
    first.shelf.dead.add(first.gateway.name)
    second.gateway = Gateway(second.settings, second.wire, second.shelf)
    second.client = TestClient(second.gateway.app)
    with second.client as client:
        assert client.get("/v1/submissions/s-1?wait=10").status_code == 200
        assert client.get("/v1/submissions/s-2").json()["status"] == "queued"
        second.run(second.wire.answer, accepted(first.wire.sent[1][1]))
        assert client.get("/v1/submissions/s-2").status_code == 200


DOCUMENT = openapi.generate()


def test_the_served_document_lists_all_routes(scene: Scene):
    assert scene.client.get("/openapi.json").json() == DOCUMENT
    served = {(route.path, method.lower()) for route in scene.gateway.app.routes for method in methods(route)}
    described = {(path, method) for path, operations in DOCUMENT["paths"].items() for method in operations}
    others = {"/readyz", "/livez", "/openapi.json", "/", "/page/{name}"}
    assert served - described == {(path, "get") for path in others}
    assert described <= served


def methods(route: Any) -> set[str]:
    return (getattr(route, "methods", None) or set()) - {"HEAD"}


@functools.cache
def validator(name: str) -> jsonschema.Draft202012Validator:
    text = json.dumps(DOCUMENT["components"]["schemas"]).replace("#/components/schemas/", "#/$defs/")
    return jsonschema.Draft202012Validator({"$ref": f"#/$defs/{name}", "$defs": json.loads(text)})


def test_requests_and_answers_are_as_the_document_says(scene: Scene):
    validator("Result").check_schema(validator("Result").schema)
    validator("NewSubmission").validate(NATIVE | {"callback_url": "https://example.org"})
    assert not validator("Submission").is_valid(NATIVE)
    validator("ExecuteRequest").validate(ONE)
    validator("Answer").validate(scene.post("/execute?wait=5", ONE).json())
    validator("ParallelRow").validate(scene.post("/execute-parallel", [ONE]).json()[0])
    validator("Result").validate(scene.post("/v1/submissions?wait=5", NATIVE).json())
    validator("ErrorAnswer").validate(scene.post("/v1/submissions", {}).json())


@configured(judge=None, gateway_ttl_s=60, max_waiting=1)
def test_a_result_that_never_comes_is_not_waited_for_for_ever(scene: Scene, monkeypatch: pytest.MonkeyPatch):
    scene.post("/v1/submissions", NATIVE | {"id": "s-1"})
    scene.run(scene.gateway.desk.expire)
    assert scene.post("/execute", ONE).status_code == 429
    now = time.time()
    monkeypatch.setattr("evalx.gateway.desk.time.time", lambda: now + 61)
    scene.run(scene.gateway.desk.expire)
    assert scene.client.get("/v1/submissions/s-1").status_code == 404
    assert scene.post("/execute", ONE).status_code == 200


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just("1" * 50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["id", "language", "version", "code", "tests", "limits", "checker", "stdin", "timeout",
                          "memory_limit", "metadata", "callback_url", "cache", "other"])  # fmt: skip


@pytest.fixture(scope="module")
def idle() -> Iterator[Scene]:
    scene = Scene(judge=None, max_waiting=10**6)
    with scene.client:
        yield scene


@settings(max_examples=60, deadline=None)
@given(path=st.sampled_from(["/execute", "/execute-batch", "/execute-parallel?wait=0", "/v1/submissions"]),
       changes=st.dictionaries(FIELDS, JSON_VALUES, max_size=3), bare=JSON_VALUES, wrapped=st.booleans())  # fmt: skip
def test_no_document_makes_a_500(idle: Scene, path: str, changes: dict[str, Any], bare: Any, wrapped: bool):
    base = NATIVE if path.startswith("/v1") else ONE
    document: Any = base | changes if wrapped else bare
    if "batch" in path or "parallel" in path:
        document = [document, document]
    answer = idle.client.post(path, content=json.dumps(document).encode(), headers=JSON)
    assert answer.status_code in (200, 202, 400, 409, 413), answer.text
    validator("ErrorAnswer" if answer.status_code >= 400 else ANSWERS[path]).validate(one_of(answer.json()))


ANSWERS = {
    "/execute": "Answer",
    "/execute-batch": "Answer",
    "/execute-parallel?wait=0": "ParallelRow",
    "/v1/submissions": "Accepted",
}


def one_of(answer: Any) -> Any:
    return answer[0] if isinstance(answer, list) else answer
