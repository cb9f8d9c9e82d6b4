import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from messages_examples import MINIMAL, RESULT, RULES, SUBMISSION, raw, submission

from evalx import asyncapi, schemas
from evalx.errors import RejectedError
from evalx.gateway import openapi
from evalx.messages import decode_submission, encode_result, encode_submission, rejected_result

FILES = Path(__file__).parents[2] / "schemas"
GENERATED = schemas.generate()


def validator(name: str) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(GENERATED[f"{name}.schema.json"])


def test_the_files_say_what_the_types_say():
    assert schemas.check(FILES) == [], "run `evalx schema --write`"
    assert schemas.check(FILES, {openapi.FILE: openapi.generate()}) == [], "run `evalx schema --write`"
    assert schemas.check(FILES, {asyncapi.FILE: asyncapi.generate()}) == [], "run `evalx schema --write`"


def test_drift_is_noticed(tmp_path: Path):
    assert schemas.check(tmp_path) == ["submission.schema.json", "result.schema.json"]
    submission_file, result_file = schemas.write(tmp_path)
    assert schemas.check(tmp_path) == []
    submission_file.write_text(submission_file.read_text().replace("128", "129"))
    assert schemas.check(tmp_path) == ["submission.schema.json"]
    result_file.unlink()
    assert schemas.check(tmp_path) == ["submission.schema.json", "result.schema.json"]


@pytest.mark.parametrize("name", ["submission", "result"])
def test_they_are_schemas_of_their_dialect(name: str):
    schema = GENERATED[f"{name}.schema.json"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(schema)


def test_the_examples_of_the_contract_are_valid():
    validator("submission").validate(SUBMISSION)
    validator("submission").validate(MINIMAL)
    validator("submission").validate(json.loads(encode_submission(decode_submission(raw(MINIMAL), RULES))))
    validator("result").validate(RESULT)
    rejected = rejected_result("s-1", RejectedError("not_json", "m"), lane="low", worker="w")
    validator("result").validate(json.loads(encode_result(rejected)))


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "a b"},
        {"id": ""},
        {"id": "x" * 129},
        {"id": ...},
        {"language": ...},
        {"code": None},
        {"version": ""},
        {"tests": []},
        {"tests": [{}] * 1001},
        {"tests": [{"id": ""}]},
        {"tests": [{"stdout": ""}]},
        {"limits": {"cpu_time_ms": 0}},
        {"limits": {"wall_time_ms": "1"}},
        {"checker": {}},
        {"checker": {"kind": "lines", "abs_tol": 1}},
        {"checker": {"kind": "floats", "abs_tol": -1}},
        {"stop_on_failure": 1},
        {"cache": "no"},
        {"metadata": {"a": 1}},
        {"lang": "c"},
    ],
    ids=str,
)
def test_schema_and_decoder_reject_the_same(changes: dict[str, Any]):
    document = submission(**changes)
    assert not validator("submission").is_valid(document)
    with pytest.raises(RejectedError):
        decode_submission(raw(document), RULES)


def test_defaults_are_those_that_the_decoder_fills_in():
    properties = GENERATED["submission.schema.json"]["properties"]
    filled = json.loads(encode_submission(decode_submission(raw(MINIMAL), RULES)))
    for name, field in properties.items():
        if "default" in field and name != "limits":
            assert filled[name] == field["default"]
    for name, field in GENERATED["submission.schema.json"]["$defs"]["Limits"]["properties"].items():
        if "default" in field:
            assert filled["limits"][name] == field["default"]
    assert "default" not in properties["version"]
