"""The page at `/` in a browser, on a real gateway, Kafka, Redis and worker."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from typing import Any

import pytest
from integration_stack import Topics
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright, expect
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
        # As root, as in a container, Chromium starts only without its own sandbox; it opens nothing but our page.
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        await browser.close()


class Visitor:
    """One browser context and its page; what went wrong in it is collected."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.failures: list[str] = []
        page.on("pageerror", lambda error: self.failures.append(str(error)))
        page.on("dialog", lambda dialog: self.failures.append(f"a dialog: {dialog.message}"))
        page.on("console", self._said)

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
    assert await page.input_value("#code") == RIGHT
    assert await page.locator("#history .badge").all_inner_texts() == ["AC", "WA"]
    await page.locator("#history button").nth(1).click()
    await visitor.verdict("WA")
    assert await page.input_value("#code") == WRONG
    await page.click("#clear-history")
    await expect(page.locator("#history button")).to_have_count(0)


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
