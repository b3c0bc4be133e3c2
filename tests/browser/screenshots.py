"""Pictures of the page for the documentation: `python -m tests.browser.screenshots` writes docs/images/chat-*.png."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.browser.answers import COST_NMYL, REQUEST, Gate, Step, make_delta, make_end, make_headers, make_proof
from tests.browser.chromium import LAUNCH_ARGS, NO_BROWSER, find_chromium
from tests.browser.conftest import ask
from tests.browser.gateway import FakeGateway, serve_page

IMAGES = Path(__file__).parents[2] / "docs" / "images"
BYTES_MAX = 200_000
WIDE = {"viewport": {"width": 1200, "height": 800}}
PHONE = {"viewport": {"width": 360, "height": 720}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
QUESTION = "How do I add up a list of numbers in Python?"
ANSWER = """The built-in `sum` does it:

```python
prices = [3, 5, 8]
print(sum(prices))  # 16
```

Two things to know:

- it takes a second argument, the **start value**: `sum(prices, 100)` is 116;
- for floats, `math.fsum` loses less to rounding.
"""


def tell_slowly(pause: Gate | None = None) -> Callable[[dict[str, Any]], list[Step]]:
    """An answer that takes as long as a small model's, so that its figures are those one would see."""
    words = ANSWER.split(" ")
    pieces = [make_delta(word + " ") for word in words[:-1]] + [make_delta(words[-1])]
    half = len(pieces) * 5 // 8
    wait: list[Step] = [pause] if pause else []
    return lambda body: [make_headers(), *pieces[:half], *wait, *pieces[half:], *make_end(tokens=81)]


def open_page(browser: Browser, gateway: FakeGateway, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(gateway.url)
    page.get_by_label("Model", exact=True).wait_for()
    return page


def show_answer(page: Page, gateway: FakeGateway, proof: dict[str, Any], badge: str) -> None:
    """A whole answer whose pieces came over 1.2 seconds, as the page's clock has it."""
    pause = Gate()
    gateway.script = tell_slowly(pause)
    gateway.proofs[REQUEST] = [proof]
    ask(page, QUESTION)
    expect(page.locator(".prose pre")).to_be_visible()
    page.wait_for_timeout(1_200)
    pause.open()
    expect(page.locator(".figures .badge")).to_have_text(badge)


def take(page: Page, name: str) -> None:
    path = IMAGES / f"chat-{name}.png"
    page.screenshot(path=path, animations="disabled")
    size = path.stat().st_size
    print(f"{path.name}  {size:,} bytes")
    if size > BYTES_MAX:
        sys.exit(f"{path} has {size} bytes, more than the {BYTES_MAX} that a picture may have")


def take_all(browser: Browser, gateway: FakeGateway) -> None:
    verified = make_proof("verified", "paid", "paid", "paid", drawn=(0, 1, 2))
    page = open_page(browser, gateway, **WIDE)
    take(page, "empty")
    show_answer(page, gateway, verified, "verified")
    page.locator("#question").hover()
    take(page, "answer")
    page.get_by_text("Route and proof").click()
    page.locator("#question").hover()
    take(page, "proof")

    page = open_page(browser, gateway, color_scheme="dark", **WIDE)
    wrong = make_proof("slashed", "paid", "slashed", "paid", drawn=(1,), returned=COST_NMYL)
    show_answer(page, gateway, wrong, "proven wrong")
    page.get_by_text("Route and proof").click()
    page.locator("#question").hover()
    take(page, "dark")

    page = open_page(browser, gateway, **PHONE)
    gateway.script = tell_slowly(Gate())
    ask(page, QUESTION)
    expect(page.locator(".prose pre")).to_be_visible()
    take(page, "phone-streaming")
    page = open_page(browser, gateway, color_scheme="dark", **PHONE)
    show_answer(page, gateway, verified, "verified")
    page.get_by_text("Route and proof").click()
    take(page, "phone-proof")


def main() -> None:
    chromium = find_chromium()
    if chromium is None:
        sys.exit(NO_BROWSER)
    IMAGES.mkdir(exist_ok=True)
    with serve_page() as gateway, sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=LAUNCH_ARGS)
        take_all(browser, gateway)
        browser.close()


if __name__ == "__main__":
    main()
