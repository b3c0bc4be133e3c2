"""Whatever a model writes stays text: no script runs, nothing is loaded from elsewhere, no link leads astray.

Beside what each test looks at, `open_page` fails it for any request to another host, policy violation or dialog.
"""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from node.gateway.page.pages import POLICY
from tests.browser.answers import tell
from tests.browser.conftest import ask
from tests.browser.gateway import FakeGateway

HOSTILE = {
    "script": "<script>window.hit = 1; alert(1)</script>",
    "onerror": '<img src=x onerror="window.hit = 1">',
    "svg": '<svg onload="window.hit = 1"><script>window.hit = 1</script></svg>',
    "iframe": '<iframe srcdoc="<script>parent.hit = 1</script>"></iframe>',
    "javascript link": "[click](javascript:window.hit=1) [tab](java&#x09;script:window.hit=1)",
    "data link": "[click](data:text/html;base64,PHNjcmlwdD53aW5kb3cuaGl0PTE8L3NjcmlwdD4=)",
    "remote image": "![pixel](https://tracker.example/pixel.png) ![two](//tracker.example/two.png)",
    "image by reference": "![pixel][p]\n\n[p]: https://tracker.example/pixel.png",
    "svg image": "![x](data:image/svg+xml;base64,PHN2ZyBvbmxvYWQ9ImFsZXJ0KDEpIi8+)",
    "style": "<style>@import 'https://tracker.example/x.css'; body { display: none }</style>",
    "style attribute": '<p style="background: url(https://tracker.example/x.png)">x</p>',
    "form": '<form action="https://tracker.example"><input name=q><button>Send</button></form>',
    "base": '<base href="https://tracker.example/"><meta http-equiv=refresh content="0;url=https://tracker.example">',
    "link": '<link rel=stylesheet href="https://tracker.example/x.css">',
    "clobbering": '<form id=app><input id=question name=body></form><a id=localStorage name=x href="cid:x">x</a>',
    "code label": '```"><img src=x onerror=window.hit=1>\ncode\n```',
    "table": '| <img src=x onerror="window.hit=1"> |\n|---|\n| <script>window.hit=1</script> |',
    "title": '[x](https://example.org "\\"onmouseover=\\"window.hit=1")',
    "mutation": '<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=x onerror=hit=1&gt;">',
    "nested": ">" * 3_000 + " deep",
    "brackets": "[" * 5_000,
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_markdown_stays_harmless(page: Page, gateway: FakeGateway, text: str) -> None:
    gateway.script = lambda body: tell(f"Before.\n\n{text}\n\nAfter.", pieces=4)
    ask(page, text)
    expect(page.locator(".figures")).to_have_count(1)
    expect(page.locator(".prose")).to_contain_text("Before.")
    assert page.evaluate("window.hit") is None
    inside = page.locator(".prose")
    expect(
        inside.locator("script, style, iframe, object, embed, form, input, svg, math, link, meta, base")
    ).to_have_count(0)
    expect(inside.locator("img")).to_have_count(0)
    names = inside.evaluate("""(root) => [...root.querySelectorAll("*")].flatMap((node) => node.getAttributeNames())""")
    assert set(names) <= {"class", "href", "rel", "target", "type", "aria-label", "role", "tabindex", "title", "align"}
    for link in inside.locator("a[href]").all():
        assert (link.get_attribute("href") or "").startswith(("https://", "http://", "mailto:"))
        assert link.get_attribute("rel") == "noopener noreferrer"
        assert link.get_attribute("target") == "_blank"


def test_raw_html_is_shown_as_it_was_written(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: tell('Use `x` and <div class="a">this</div>, H<sub>2</sub>O.')
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text('Use x and <div class="a">this</div>, H2O.')
    expect(page.locator(".prose sub")).to_have_text("2")


def test_a_remote_image_is_a_link_that_says_so(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: tell(
        "![a cat](https://example.org/cat.png) ![dot](data:image/gif;base64,R0lGODlhAQABAAAAACw=)"
    )
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    link = page.locator(".prose a")
    expect(link).to_have_text("image: a cat")
    expect(link).to_have_attribute("href", "https://example.org/cat.png")
    expect(page.locator(".prose img")).to_have_attribute("alt", "dot")


SANITISE = """async (html) => {
  const { sanitise } = await import("/page/markdown.js");
  const frame = document.createElement("div");
  frame.append(sanitise(html));
  return frame.innerHTML;
}"""


@pytest.mark.parametrize(
    ("html", "safe"),
    [
        ("<script>alert(1)</script><p onclick=alert(1)>x</p>", "<p>x</p>"),
        ('<img src="https://tracker.example/x.png">', ""),
        ('<img src="/v1/models">', ""),
        ('<a href="javascript:alert(1)">x</a>', "<a>x</a>"),
        ('<a href="/v1/requests/1">x</a>', "<a>x</a>"),
        ('<p class="shade" id="app" data-x="1" aria-label="y">x</p>', "<p>x</p>"),
        ('<code class="language-c++">x</code>', '<code class="language-c++">x</code>'),
        ('<code class="language-x notice">x</code>', "<code>x</code>"),
        (
            '<a href="https://a.example">x</a>',
            '<a href="https://a.example" rel="noopener noreferrer" target="_blank">x</a>',
        ),
        ('<img src="data:image/png;base64,AA==" alt="a">', '<img src="data:image/png;base64,AA==" alt="a">'),
    ],
)
def test_the_sanitiser_holds_by_itself(page: Page, html: str, safe: str) -> None:
    """What the renderer escapes never gets there: this is the second wall, alone."""
    assert page.evaluate(SANITISE, html) == safe


def test_questions_and_names_are_text(page: Page, gateway: FakeGateway) -> None:
    ask(page, "<img src=x onerror='window.hit=1'> **not bold**")
    expect(page.locator(".bubble")).to_have_text("<img src=x onerror='window.hit=1'> **not bold**")
    expect(page.locator(".bubble *")).to_have_count(0)


def test_the_policy_stops_what_is_inline(browser: Browser, gateway: FakeGateway) -> None:
    """The third wall: were markup to come through all the same, it could do nothing."""
    assert "unsafe" not in POLICY
    with browser.new_context() as context:
        page = context.new_page()
        page.goto(gateway.url)
        blocked = page.evaluate("""() => new Promise((resolve) => {
          addEventListener("securitypolicyviolation", (event) => resolve(event.violatedDirective), { once: true });
          const script = document.createElement("script");
          script.textContent = "window.hit = 1";
          document.body.append(script);
        })""")
        assert blocked.startswith("script-src")
        assert page.evaluate("window.hit") is None
