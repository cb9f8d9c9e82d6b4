"""The page at `/` in a browser, on a real gateway, Kafka, Redis and worker."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from integration_stack import Topics
from playwright.async_api import Browser, ConsoleMessage, Dialog, Page, async_playwright, expect
from running_gateway import RunningGateway, running

#: Milliseconds that are more than enough; a bound for hangs.
PATIENCE_MS = 120_000
expect.set_options(timeout=PATIENCE_MS)

#: The sum does not fit, for the last of the example's tests.
WRONG = """\
#include <iostream>

int main() {
    int a, b;
    std::cin >> a >> b;
    std::cout << a + b << '\\n';
}
"""
RIGHT = WRONG.replace("int a", "long long a")


@pytest.fixture(scope="module")
async def gateway(topics: Topics) -> AsyncIterator[RunningGateway]:
    async with running(topics) as gateway:
        yield gateway


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    assert path is not None, "the Debian package chromium is missing; ./run-tests.sh installs it"
    async with async_playwright() as playwright:
        # As root, as in a container, Chromium starts only without its own sandbox, and /dev/shm may be small; it opens
        # nothing but our page.
        arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = await playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        await browser.close()


class Visitor:
    """One browser context and its page; what went wrong in it is collected."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.failures: list[str] = []
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        self.answer: Callable[[Dialog], Awaitable[None]] = self._refuse
        page.on("dialog", lambda dialog: self.answer(dialog))
        page.on("console", self._said)

    async def _refuse(self, dialog: Dialog) -> None:
        self.failures.append(f"a dialog: {dialog.message}")
        await dialog.dismiss()

    def _said(self, message: ConsoleMessage) -> None:
        # What the gateway refuses is an error on the console as well, and meant to be.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.failures.append(message.text)

    async def open(self, gateway: RunningGateway) -> None:
        await self.page.goto(gateway.url + "/")
        await self.page.wait_for_selector("html[data-ready]")

    async def run(self, code: str, language: str | None = None) -> None:
        if language is not None:
            await self.page.select_option("#language", language)
        await self.page.fill("#code", code)
        await self.page.click("#run")

    async def verdict(self, code: str) -> None:
        await expect(self.page.locator(".summary .badge")).to_have_text(code)

    async def tests(self, *tests: tuple[str, str]) -> None:
        """Replace the tests."""
        while await self.page.locator("#tests li").count() > 1:
            await self.page.locator("#tests .remove").first.click()
        for number, (stdin, expected) in enumerate(tests, 1):
            if number > 1:
                await self.page.click("#add-test")
            await self.page.get_by_label(f"Test {number}, input").fill(stdin)
            await self.page.get_by_label(f"Test {number}, expected output").fill(expected)


SMALL = pytest.mark.parametrize("visitor", [{"viewport": {"width": 375, "height": 700}}], indirect=True, ids=[""])


@pytest.fixture
async def visitor(request: pytest.FixtureRequest, browser: Browser) -> AsyncIterator[Visitor]:
    options: dict[str, Any] = getattr(request, "param", {})
    context = await browser.new_context(**options)
    context.set_default_timeout(PATIENCE_MS)
    visitor = Visitor(await context.new_page())
    yield visitor
    await context.close()
    assert visitor.failures == []


async def test_a_wrong_program_is_corrected_and_remembered(visitor: Visitor, gateway: RunningGateway):
    page = visitor.page
    await visitor.open(gateway)
    await visitor.run(WRONG)
    await visitor.verdict("WA")
    assert await page.locator(".tile strong").all_inner_texts() == ["AC", "AC", "WA"]
    assert await page.locator(".diff .missing .text").all_inner_texts() == ["4000000000"]
    assert await page.locator(".diff .extra .text").all_inner_texts() == ["-294967296"]
    await expect(page.locator("#status")).to_have_text("Wrong answer: 2 of 3 tests passed.")

    await visitor.run(RIGHT)
    await visitor.verdict("AC")
    assert await page.locator(".tile strong").all_inner_texts() == ["AC", "AC", "AC"]
    assert await page.locator(".tile.turned .time .value").first.inner_text() != ""

    await page.reload()
    await page.wait_for_selector("html[data-ready]")
    assert await page.input_value("#code") == RIGHT
    assert await page.locator("#history .badge").all_inner_texts() == ["AC", "WA"]
    await page.locator("#history button").nth(1).click()
    await visitor.verdict("WA")
    assert await page.input_value("#code") == WRONG
    await page.click("#clear-history")
    await expect(page.locator("#history button")).to_have_count(0)


async def test_what_was_not_run_is_not_lost_unasked(visitor: Visitor, gateway: RunningGateway):
    page = visitor.page
    asked: list[str] = []

    async def answer(dialog: Dialog) -> None:
        asked.append(dialog.message)
        await (dialog.dismiss() if len(asked) == 1 else dialog.accept())

    await visitor.open(gateway)
    await page.click("#example")
    visitor.answer = answer
    await page.fill("#code", WRONG)
    await page.click("#example")
    assert (len(asked), await page.input_value("#code")) == (1, WRONG)
    await page.click("#example")
    assert len(asked) == 2
    assert await page.input_value("#code") != WRONG


async def test_errors_of_the_compiler_mark_their_lines(visitor: Visitor, gateway: RunningGateway):
    page = visitor.page
    await visitor.open(gateway)
    await visitor.run(RIGHT.replace("a + b", "a + c"))
    await visitor.verdict("CE")
    assert "declared" in await page.locator("#problems button").inner_text()
    assert "6" in await page.locator(".gutter .error").inner_text()
    assert await page.get_attribute("#code", "aria-invalid") == "true"
    # Marks go along with their lines.
    await page.locator("#problems button").click()
    await page.keyboard.press("ControlOrMeta+Home")
    await page.keyboard.press("Enter")
    assert await page.locator(".gutter .error").inner_text() == "7"
    await page.select_option("#language", "python 3.13")
    await visitor.run("def f():\n    return missing\nf()\n")
    await visitor.verdict("RTE")
    text = "Line 2 error: NameError: name 'missing' is not defined"
    assert await page.locator("#problems button").inner_text() == text


#: Each answer is something that a page might take for something else.
HOSTILE = r"""
import sys
case = input()
if case == "html":
    print("<script>alert(1)</script><img src=x onerror=alert(1)>")
    print("<b>error</b>", file=sys.stderr)
elif case == "bytes":
    sys.stdout.buffer.write(b"\xff\x00ab\x1b[31m" + "\u202ecba".encode())
else:
    print("x" * 60000)
"""


async def test_hostile_output_stays_text(visitor: Visitor, gateway: RunningGateway):
    page = visitor.page
    await visitor.open(gateway)
    await page.select_option("#language", "python 3.13")
    await visitor.tests(("html", "<b>bold</b>"), ("bytes", ""), ("long", "y"))
    await visitor.run(HOSTILE)
    await visitor.verdict("WA")
    written = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    assert await page.locator(".diff .extra .text").inner_text() == written
    assert await page.locator(".diff .missing .text").inner_text() == "<b>bold</b>"
    await expect(page.locator("#result pre", has_text="<b>error</b>")).to_have_count(1)
    await page.locator(".tile").nth(1).click()
    await expect(page.get_by_role("region", name="Output")).to_have_text("\ufffd\u2400ab\u241b[31m\u27e8202E\u27e9cba")
    await page.locator(".tile").nth(2).click()
    await expect(page.locator(".diff .extra")).to_contain_text("59000 more characters")

    await page.select_option("#language", "c 17")
    await visitor.run("#error <img src=x onerror=alert(1)>\n")
    await visitor.verdict("CE")
    await expect(page.locator("#problems")).to_contain_text("<img src=x onerror=alert(1)>")
    assert await page.locator("main img, main script, main b").count() == 0


@SMALL
async def test_what_the_gateway_refuses_is_said_in_words(visitor: Visitor, topics: Topics):
    page = visitor.page
    alert, status = page.locator("#alert"), page.locator("#status")
    tokens = f"me={hashlib.sha256(b'a secret').hexdigest()}"
    # One submission is accepted, and the next one is due in 100 s.
    async with running(topics, gateway_tokens=tokens, gateway_rate_per_s=0.01) as gateway:
        await visitor.open(gateway)
        await expect(page.locator("#queue-note")).to_have_text("shown with a token")
        await page.click("#run")
        await expect(alert).to_contain_text("This gateway needs a token")
        await expect(page.locator("#token")).to_be_focused()
        await expect(page.locator("#token")).to_be_in_viewport()
        await page.keyboard.type("a secret")
        await page.keyboard.press("Enter")
        await expect(page.locator("#lanes")).to_contain_text("high")
        await expect(alert).to_be_hidden()

        await page.locator(".options summary").click()
        await page.fill("#cpu", "99999")
        await page.click("#run")
        await expect(alert).to_contain_text("limits.cpu_time_ms: 99999000 is over the maximum")
        await page.fill("#cpu", "")
        await visitor.run("x" * 300_000)
        await expect(alert).to_contain_text("at most 262144 are allowed")

        await visitor.run(RIGHT)
        await visitor.verdict("AC")
        await expect(alert).to_be_hidden()
        await page.reload()
        assert await page.input_value("#token") == "a secret"
        await page.click("#run")
        await expect(alert).to_contain_text("slow down")
        await expect(status).to_contain_text("Run again in")
    await page.click("#run")
    await expect(alert).to_contain_text("The gateway does not answer")
    assert await page.input_value("#code") == RIGHT


#: The first stream of events is the test's to write; the next ones come from the gateway.
HELD = """
    const fetched = window.fetch, encoder = new TextEncoder();
    let held = null;
    window.fetch = (url, options) => {
        if (held !== null || !String(url).endsWith("/events")) return fetched(url, options);
        return Promise.resolve(new Response(new ReadableStream({start: (control) => { held = control; }})));
    };
    window.tell = (text) => held.enqueue(encoder.encode(text));
    window.cut = () => held.error(new TypeError("network error"));
"""
ENDED = (
    'event: test\ndata: {"id":"2","verdict":"WA","exit_code":0,"signal":null,"cpu_time_ms":1.5,"wall_time_ms":2,'
    '"peak_memory_bytes":3145728}\n\n'
)


async def test_tiles_turn_one_by_one_and_a_stream_that_breaks_is_opened_again(
    visitor: Visitor, gateway: RunningGateway
):
    page = visitor.page
    await page.add_init_script(HELD)
    await visitor.open(gateway)
    await visitor.run(RIGHT)
    await expect(page.locator(".tile.waiting")).to_have_count(3)
    await page.wait_for_function("() => { try { window.tell(': ready\\n\\n'); return true; } catch { return false; } }")
    await page.evaluate("(text) => window.tell(text)", ENDED)
    await expect(page.locator(".tile.turned")).to_have_count(1)
    await expect(page.locator(".tile").nth(1)).to_have_attribute("aria-label", "Test 2: Wrong answer, 1.5 ms, 3.0 MiB")
    await expect(page.locator("#status")).to_have_text("Running: 1 of 3 tests done.")
    # The result alone counts.
    await page.evaluate("() => window.cut()")
    await visitor.verdict("AC")
    assert await page.locator(".tile strong").all_inner_texts() == ["AC", "AC", "AC"]
    await expect(page.locator("#stop")).to_be_hidden()


async def test_nobody_needs_a_mouse(visitor: Visitor, gateway: RunningGateway):
    page, keys = visitor.page, visitor.page.keyboard
    await visitor.open(gateway)
    await tab_to(page, "#language")
    await keys.type("Python")
    await tab_to(page, "#code")
    await keys.press("ControlOrMeta+a")
    await keys.type("if True:\nprint(input())")
    await keys.press("Shift+Tab")
    assert await page.input_value("#code") == "if True:\nprint(input())"
    await keys.press("Home")
    await keys.press("Tab")
    assert await page.input_value("#code") == "if True:\n    print(input())"
    await keys.press("Escape")
    await keys.press("Tab")
    await expect(page.locator("#code")).not_to_be_focused()
    await tab_to(page, "#add-test")
    await keys.press("Enter")
    await expect(page.get_by_label("Test 4, input")).to_be_focused()
    await keys.type("hello")
    await keys.press("Tab")
    await keys.type("hello")
    await keys.press("ControlOrMeta+Enter")
    await visitor.verdict("WA")
    await tab_to(page, "#tests li:last-child .remove")
    await keys.press("Enter")
    await expect(page.locator("#tests li")).to_have_count(3)
    await tab_to(page, ".tiles li:last-child button")
    await keys.press("Enter")
    await expect(page.locator(".full h3")).to_have_text("Test 4: Accepted")


async def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        if await page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return
        await page.keyboard.press("Tab")
    raise AssertionError(f"{selector} is not reached by Tab")


#: The least contrast of any text to what is behind it.
CONTRAST = """() => {
    const root = getComputedStyle(document.documentElement);
    const probe = document.body.appendChild(document.createElement("i"));
    const light = (name) => {
        probe.style.color = root.getPropertyValue("--" + name);
        const parts = getComputedStyle(probe).color.match(/[0-9.]+/g).slice(0, 3).map((one) => one / 255);
        const [r, g, b] = parts.map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    };
    const pairs = [["accent-ink", "accent"]];
    for (const paper of ["paper", "card", "field", "sunken"]) {
        pairs.push(["ink", paper], ["soft", paper], ["accent", paper]);
    }
    for (const kind of ["good", "bad", "limit", "crash", "plain", "quiet"]) {
        pairs.push([kind, kind + "-fill"], [kind, "card"], ["ink", kind + "-fill"]);
    }
    return Object.fromEntries(pairs.map(([ink, paper]) => {
        const [a, b] = [light(ink), light(paper)];
        return [`${ink} on ${paper}`, Math.max(a, b) / Math.min(a, b)];
    }));
}"""


@pytest.mark.parametrize("width", [375, 1360])
@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_can_be_read(browser: Browser, gateway: RunningGateway, tmp_path: Path, scheme: Any, width: int):
    context = await browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    visitor = Visitor(await context.new_page())
    page = visitor.page
    await visitor.open(gateway)
    await visitor.run(WRONG)
    await visitor.verdict("WA")
    await page.screenshot(path=tmp_path / f"{scheme}-{width}.png", full_page=True)
    contrast = await page.evaluate(CONTRAST)
    assert {what: ratio for what, ratio in contrast.items() if ratio < 4.5} == {}
    assert await page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    background = await page.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(244, 245, 247)", "dark": "rgb(18, 21, 28)"}[scheme]
    await context.close()
    assert visitor.failures == []


async def test_the_modules_by_themselves(visitor: Visitor, gateway: RunningGateway):
    await visitor.open(gateway)
    cases = [
        ("diff", "diffLines('1\\n2\\n3\\n', '1\\n3 \\n4').map((l) => l.kind + l.text)",
         ["same1", "missing2", "same3 ", "extra4"]),
        ("diff", "diffLines('a\\n', 'a', 'exact').length", 2),
        ("diff", "diffLines('a  b', ' a b', 'tokens').map((l) => l.kind)", ["same"]),
        ("diff", "diffLines('abXd', 'abYYd').map((l) => l.marks)", [[2, 3], [2, 4]]),
        ("diff", "diffLines('x\\n'.repeat(3000), 'y\\n'.repeat(3000)).length", 6000),
        ("problems", "compilerProblems('Main.java:3: error: bad', 'Main.java')[0].line", 3),
        ("problems", "runtimeProblems('/box/main.js:7\\n  x()\\n\\nTypeError: no', 'main.js')[0]",
         {"line": 7, "column": None, "kind": "error", "text": "TypeError: no"}),
        ("words", "[duration(0.5), duration(1500), size(1048576)]", ["0.5 ms", "1.50 s", "1.0 MiB"]),
        ("editor", "moved([{line: 1}, {line: 3}], ['a', 'b', 'c'], ['a', 'b', 'x', 'c']).map((p) => p.line)", [1, 4]),
    ]  # fmt: skip
    for module, expression, wanted in cases:
        names = "{" + ", ".join(NAMES[module]) + "}"
        script = f"async () => {{ const {names} = await import('/page/{module}.js'); return {expression}; }}"
        assert await visitor.page.evaluate(script) == wanted, expression
    assert await visitor.page.evaluate(EVENTS) == [["status", {"a": "ü"}], ["test", 1], ["result", None]]


NAMES = {
    "diff": ["diffLines"],
    "problems": ["compilerProblems", "runtimeProblems"],
    "words": ["duration", "size"],
    "editor": ["moved"],
}
#: The stream comes byte by byte.
EVENTS = """async () => {
    const { readEvents } = await import("/page/api.js");
    const blocks = ['retry: 1', 'event: status\\ndata: {"a":"ü"}', ': alive', 'event: test\\ndata: 1'];
    const text = [...blocks, 'event: result\\ndata: null', 'event: cut'].join("\\n\\n");
    const bytes = new TextEncoder().encode(text);
    const stream = new ReadableStream({start(control) {
        for (const byte of bytes) control.enqueue(Uint8Array.of(byte));
        control.close();
    }});
    const found = [];
    for await (const event of readEvents(stream)) found.push([event.name, event.data]);
    return found;
}"""
