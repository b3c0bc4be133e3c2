"""The page before the real gateway, over HTTP; what it asks of the network is a fake."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from playwright.sync_api import Browser, Page, expect

from node.client.answer import Resolution
from tests.browser.conftest import WAIT_MS, ask, watch
from tests.unit.node.gateway import fake_inference, running

TEXT = "The capital is **Paris**.\n\n```python\nx = 1\n```\n"


async def pause() -> None:
    """A token takes long enough that a page can be seen while it writes."""
    await trio.sleep(0.01)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[running.RunningGateway]:
    gateway = running.make_gateway(tmp_path)
    gateway.inference.script = fake_inference.say(TEXT)
    gateway.inference.pause = pause
    with running.run_in_thread(gateway) as started:
        yield started


@pytest.fixture
def page(browser: Browser, gateway: running.RunningGateway) -> Iterator[Page]:
    """The page, with its key entered."""
    faults: list[str] = []
    with browser.new_context() as context:
        context.set_default_timeout(WAIT_MS)
        opened = context.new_page()
        watch(opened, gateway.url, faults)
        opened.goto(gateway.url)
        opened.get_by_role("dialog").get_by_label("Key").fill(gateway.key)
        opened.keyboard.press("Enter")
        opened.get_by_label("Model", exact=True).wait_for()
        yield opened
    assert faults == []


def test_an_answer_is_written_paid_and_verified(page: Page, gateway: running.RunningGateway) -> None:
    ask(page, "capital?")
    expect(page.locator(".prose strong")).to_have_text("Paris")
    expect(page.locator(".figures")).to_contain_text("48 tokens")
    expect(page.locator(".figures")).to_contain_text("nmyl")
    page.get_by_text("Route and proof").click()
    expect(page.locator(".route tbody tr")).to_have_count(2)
    gateway.inference.resolution = Resolution.VERIFIED
    expect(page.locator(".figures .badge")).to_have_text("verified")
    expect(page.locator(".route tbody tr").first).to_contain_text("recomputed: same")


def test_stop_reaches_the_network(page: Page, gateway: running.RunningGateway) -> None:
    gateway.inference.hold_at = 8
    ask(page, "capital?")
    expect(page.locator(".prose")).to_have_text("The capi")
    page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")
    running.poll_until(lambda: len(gateway.inference.left) == 1)
    expect(page.locator(".figures")).to_contain_text("8 tokens")


def test_failures_are_told_as_the_gateway_has_them(page: Page, gateway: running.RunningGateway) -> None:
    gateway.inference.lose_at = 5
    ask(page, "capital?")
    expect(page.locator(".ending")).to_contain_text("the worker is gone")
    gateway.inference.lose_at = None
    ask(page, "x" * 6_000)
    expect(page.locator(".ending").last).to_contain_text("context_length_exceeded")
