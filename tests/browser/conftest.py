"""A Chromium for a module, and for each test a fresh profile that may reach its gateway alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request, expect, sync_playwright

from tests.browser.chromium import LAUNCH_ARGS, NO_BROWSER, find_chromium
from tests.browser.gateway import FakeGateway, serve_page

WAIT_MS = 60_000
"""How long a busy machine may take to show something."""
expect.set_options(timeout=WAIT_MS)

REFUSED = re.compile(r"Failed to load resource: (the server responded with a status of|net::ERR_INCOMPLETE_CHUNKED)")
"""What the browser itself prints about answers that a test wants to fail."""

WATCH_POLICY = """
window.violations = [];
addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  violations.push(`${violatedDirective} ${blockedURI}`);
});
"""
AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text("utf-8")

OpenPage = Callable[..., Page]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A page in a fresh profile takes a second, and there are a hundred: `make test` has them, `make quick` has not."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """For a module and no longer: while it lives, this thread has a running asyncio loop, which other tests mind."""
    chromium = find_chromium()
    if chromium is None:
        pytest.skip(NO_BROWSER)
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=chromium, args=LAUNCH_ARGS)
        yield running
        running.close()


@pytest.fixture
def gateway() -> Iterator[FakeGateway]:
    with serve_page() as running:
        yield running


@pytest.fixture
def open_page(browser: Browser, gateway: FakeGateway) -> Iterator[OpenPage]:
    """Opens the page in a profile of its own; at the end nothing may have been asked elsewhere, refused or failed."""
    contexts: list[BrowserContext] = []
    faults: list[str] = []
    pages: list[Page] = []

    def open_one(**options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(WATCH_POLICY)
        page = context.new_page()
        pages.append(page)
        watch(page, gateway.url, faults)
        page.goto(gateway.url)
        return page

    yield open_one
    for page in pages:
        faults += [f"policy violated: {one}" for one in page.evaluate("window.violations")]
    for context in contexts:
        context.close()
    assert faults == []


def watch(page: Page, url: str, faults: list[str]) -> None:
    host = urlsplit(url).netloc

    def on_request(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != host:
            faults.append(f"asked {request.url}")

    def on_console(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning") and not REFUSED.match(message.text):
            faults.append(f"console: {message.text}")

    def on_dialog(dialog: Dialog) -> None:
        faults.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("request", on_request)
    page.on("console", on_console)
    page.on("pageerror", lambda error: faults.append(f"error: {error}"))
    page.on("dialog", on_dialog)


@pytest.fixture
def page(open_page: OpenPage) -> Page:
    """The page, wide, with its models loaded."""
    opened = open_page()
    opened.get_by_label("Model", exact=True).wait_for()
    return opened


def ask(page: Page, question: str) -> None:
    """Types a question and sends it by Enter."""
    page.get_by_label("Your question", exact=True).fill(question)
    page.get_by_label("Your question", exact=True).press("Enter")


def find_serious(page: Page) -> list[str]:
    """Findings of axe that are serious or critical: rule, what it says, and where."""
    page.evaluate(AXE)
    found = page.evaluate("axe.run()")["violations"]
    return [
        f"{one['id']}: {one['help']}: {node['html']} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
