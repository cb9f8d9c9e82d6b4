"""What the page at `/` is made of and asks for, without a browser; `tests/integration/test_page.py` has one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from gateway_scene import NATIVE, Scene

from evalx.languages import Registry

TOKENS = f"a={hashlib.sha256(b'aa').hexdigest()}"


@pytest.fixture
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    scene = Scene(**getattr(request, "param", {}))
    with scene.client:
        yield scene


def configured(**settings: Any) -> Any:
    return pytest.mark.parametrize("scene", [settings], indirect=True, ids=[""])


def referred(text: str) -> set[str]:
    """The files that a file of the page asks for, by its own words."""
    return set(re.findall(r'(?:from "\./|="page/)([a-z]+\.[a-z]+)"', text))


@configured(gateway_tokens=TOKENS)
def test_the_page_and_all_that_it_refers_to_are_served_to_everybody(scene: Scene):
    known, waiting = set(), referred(scene.client.get("/").text)
    assert {"main.js", "page.css", "icon.svg"} <= waiting
    while waiting:
        name = waiting.pop()
        answer = scene.client.get(f"/page/{name}")
        assert answer.status_code == 200, name
        known.add(name)
        waiting |= referred(answer.text) - known
    assert scene.client.get("/page/nothing.js").status_code == 404
    assert scene.client.get("/page/..%2Ffront.py").status_code == 404


def test_a_browser_is_told_what_it_may_do(scene: Scene):
    for path in ("/", "/page/main.js", "/page/page.css"):
        headers = scene.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "require-trusted-types-for 'script'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"


def test_no_other_host_and_no_html_from_text(scene: Scene):
    page = scene.client.get("/").text
    sources = [page, *(scene.client.get(f"/page/{name}").text for name in sorted(referred(page)))]
    for text in sources:
        assert not re.search(r"(src|href|url\(|import )[=( ]*[\"']?(https?:)?//", text)
        assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
    assert " style=" not in page
    assert not re.search(r"\son[a-z]+=", page)


def test_an_unchanged_file_is_not_sent_again(scene: Scene):
    first = scene.client.get("/")
    again = scene.client.get("/", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["content-security-policy"] == first.headers["content-security-policy"]
    assert scene.client.get("/", headers={"if-none-match": '"other"'}).status_code == 200
    assert scene.client.head("/").headers["etag"] == first.headers["etag"]


@configured(gateway_tokens=TOKENS)
def test_languages_are_told_to_everybody(scene: Scene):
    languages = scene.client.get("/v1/languages").json()
    installed = Registry.load().languages
    assert [(one["name"], one["version"]) for one in languages] == [(one.name, one.version) for one in installed]
    (cpp,) = [one for one in languages if one["name"] == "cpp" and one["default"]]
    assert cpp == {
        "name": "cpp", "version": "17", "title": "C++17 (GCC)", "default": True, "compiled": True, "source": "main.cpp",
    }  # fmt: skip


@configured(gateway_tokens=TOKENS, judge=None)
def test_the_queue_is_told_by_lane(scene: Scene):
    assert scene.client.get("/v1/queue").status_code == 401
    token = {"authorization": "Bearer aa"}
    for lane in ("low", "low", "high"):
        assert scene.post(f"/v1/submissions?priority={lane}", NATIVE, headers=token).status_code == 202
    queue = scene.client.get("/v1/queue", headers=token).json()
    assert [(lane["name"], lane["waiting"]) for lane in queue["lanes"]] == [("high", 1), ("normal", 0), ("low", 2)]
    assert (queue["waiting"], queue["lanes"][1]["oldest_s"]) == (3, 0.0)
    scene.shelf.away = True
    assert scene.client.get("/v1/queue", headers=token).json()["waiting"] == 3
