"""Answers as they arrive: shown at once, stopped, cut, broken, refused in the middle; and how events are read."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.answers import (
    DONE,
    REQUEST,
    Break,
    Gate,
    Refuse,
    Step,
    make_delta,
    make_end,
    make_event,
    make_headers,
    make_proof,
    tell,
)
from tests.browser.conftest import ask
from tests.browser.gateway import FakeGateway


def test_text_is_shown_while_the_rest_is_computed(page: Page, gateway: FakeGateway) -> None:
    prefill, rest = Gate(), Gate()
    gateway.script = lambda body: [
        make_headers(), ": ping\n\n", prefill, ": ping\n\n", make_delta("The **first"), make_delta("** half"), rest,
        make_delta(" and the second."), *make_end(),
    ]  # fmt: skip
    ask(page, "one")
    log = page.get_by_role("log")
    expect(page.locator(".writing.waiting")).to_be_visible()
    expect(log).to_have_attribute("aria-busy", "true")
    prefill.open()
    expect(page.locator(".prose")).to_have_text("The first half")
    expect(page.locator(".prose strong")).to_have_text("first")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    rest.open()
    expect(page.locator(".prose")).to_have_text("The first half and the second.")
    expect(log).to_have_attribute("aria-busy", "false")
    expect(page.get_by_role("status").first).to_have_text("The answer is complete.")


def test_a_block_that_is_complete_is_not_drawn_again(page: Page, gateway: FakeGateway) -> None:
    """Else a selection in it would be lost with every token."""
    rest = Gate()
    gateway.script = lambda body: [
        make_headers(),
        make_delta("Settled.\n\nGro"),
        rest,
        make_delta("wing."),
        *make_end(),
    ]
    ask(page, "one")
    settled = page.locator(".prose p").first
    expect(settled).to_have_text("Settled.")
    settled.evaluate("(node) => { window.kept = node; }")
    rest.open()
    expect(page.locator(".prose")).to_contain_text("Growing.")
    assert page.evaluate("window.kept === document.querySelector('.prose p')")


@pytest.mark.parametrize("means", ["button", "Escape"])
def test_stop_ends_the_request_and_keeps_what_came(page: Page, gateway: FakeGateway, means: str) -> None:
    gateway.script = lambda body: [make_headers(), make_delta("Only this"), Gate(), make_delta(" never"), *make_end()]
    gateway.proofs[REQUEST] = [{**make_proof("paid", "paid", "paid", "paid"), "generated_tokens": 2}]
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text("Only this")
    if means == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")
    assert gateway.gone.wait(20), "the gateway sees that the client is gone"
    expect(page.locator(".prose")).to_have_text("Only this")
    expect(page.locator(".badge").first).to_have_text("paid, not all checked")  # known from the header alone
    expect(page.locator(".figures").first).to_contain_text("2 tokens")
    gateway.script = lambda body: tell("Next.")
    ask(page, "two")
    expect(page.locator(".prose").last).to_have_text("Next.")
    assert [one["content"] for one in gateway.asked[1]["messages"]] == ["one", "Only this", "two"]


def test_stop_before_the_first_token(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: [make_headers(), Gate(), *make_end()]
    ask(page, "one")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()


@pytest.mark.parametrize(
    ("tail", "words"),
    [
        ([], "The connection closed before the answer was complete."),
        ([Break()], "The connection broke before the answer was complete."),
        (["data: {no json\n\n", DONE], "The stream holds a line that is not JSON."),
    ],
    ids=["without DONE", "broken", "not JSON"],
)
def test_a_stream_without_its_end_is_shown_as_cut(
    page: Page, gateway: FakeGateway, tail: list[str | Break], words: str
) -> None:
    gate = Gate()
    gateway.script = lambda body: [make_headers(), make_delta("Half an"), gate, *tail]
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text("Half an")
    gate.open()
    expect(page.locator(".ending")).to_contain_text("Cut short.")
    expect(page.locator(".ending")).to_contain_text(words)
    expect(page.locator(".prose")).to_have_text("Half an")
    gateway.script = lambda body: tell("A whole answer.")
    page.get_by_role("button", name="Retry this answer").click()
    expect(page.locator(".prose")).to_have_text("A whole answer.")


def test_an_answer_whose_gateway_died_goes_on_by_itself(page: Page, gateway: FakeGateway) -> None:
    """The page asks until a gateway is there again; what it had is replaced by the whole answer."""
    asked: list[str] = []

    def resume(request: str) -> list[Step]:
        asked.append(request)
        if len(asked) == 1:
            return [Refuse(503, "Starting.", "no_path")]
        return [make_headers("ab" * 32), make_delta("Half an answer, "), make_delta("and the rest."), *make_end()]

    gateway.resume = resume
    gateway.script = lambda body: [make_headers(), make_delta("Half an"), Break()]
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text("Half an answer, and the rest.")
    expect(page.locator(".ending")).to_have_count(0)
    assert asked == [REQUEST, REQUEST]


def test_an_error_inside_the_stream_is_told(page: Page, gateway: FakeGateway) -> None:
    error = {
        "error": {"message": "No worker is left for layers 10-19.", "type": "server_error", "code": "upstream_gone"}
    }
    gateway.script = lambda body: [make_headers(), make_delta("Half an"), make_event(error), DONE]
    ask(page, "one")
    expect(page.locator(".ending")).to_contain_text("No worker is left for layers 10-19.")
    expect(page.locator(".ending")).to_contain_text("upstream_gone")
    expect(page.locator(".prose")).to_have_text("Half an")


def test_a_page_left_in_the_middle_shows_the_answer_as_cut(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: [make_headers(), make_delta("Half an"), Gate(), *make_end()]
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text("Half an")
    page.reload()
    expect(page.locator(".ending")).to_contain_text("The page was left before the answer was complete.")
    assert gateway.gone.wait(20)


def test_a_long_answer_stays_at_its_end_and_lets_one_read_above(page: Page, gateway: FakeGateway) -> None:
    rest = Gate()
    lines = "".join(f"Line {number}.\n\n" for number in range(80))
    gateway.script = lambda body: [make_headers(), make_delta(lines), rest, make_delta("The end."), *make_end()]
    ask(page, "one")
    expect(page.get_by_text("Line 79.")).to_be_in_viewport()
    page.get_by_role("log").evaluate("(log) => { log.scrollTop = 0; }")
    expect(page.get_by_role("button", name="To the newest message")).to_be_visible()
    rest.open()
    expect(page.locator(".figures")).to_have_count(1)
    expect(page.get_by_text("Line 1.", exact=True)).to_be_in_viewport()
    page.get_by_role("button", name="To the newest message").click()
    expect(page.get_by_text("The end.")).to_be_in_viewport()


def test_stop_stays_at_hand_while_text_comes_that_is_slow_to_lay_out(page: Page, gateway: FakeGateway) -> None:
    """Emphasis without spaces between is quadratic in marked: 30,000 characters of it take it a second."""
    gateway.script = lambda body: [make_headers(), *(make_delta("_a_" * 100) for _ in range(100)), Gate()]
    ask(page, "one")
    expect(page.locator(".prose")).to_contain_text("_a_")
    page.keyboard.press("Escape")
    expect(page.locator(".ending")).to_contain_text("You stopped this answer.")


def test_another_conversation_can_be_read_while_one_streams(page: Page, gateway: FakeGateway) -> None:
    rest = Gate()
    ask(page, "first")
    expect(page.locator(".figures")).to_have_count(1)
    page.get_by_role("button", name="New conversation").click()
    gateway.script = lambda body: [make_headers("ab" * 32), make_delta("Half"), rest, make_delta(" done."), *make_end()]
    ask(page, "second")
    expect(page.locator(".prose")).to_have_text("Half")
    page.get_by_role("button", name="first", exact=True).click()
    expect(page.locator(".prose")).to_have_text("Hello.")
    rest.open()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.get_by_role("button", name="second", exact=True).click()
    expect(page.locator(".prose")).to_have_text("Half done.")


READ_EVENTS = """async (pieces) => {
  const { EventReader } = await import("/page/sse.js");
  const reader = new EventReader();
  return pieces.flatMap((piece) => reader.feed(piece));
}"""


@pytest.mark.parametrize(
    ("pieces", "events"),
    [
        (["data: a\n\ndata: b\n\n"], ["a", "b"]),
        (["da", "ta: a", "\n", "\n"], ["a"]),
        (["data: a\r", "\n\r", "\ndata: b\r\n\r\n"], ["a", "b"]),
        ([": ping\n\n", "data:a\ndata: b\n\n", ": ping\n\n"], ["a\nb"]),
        (["event: x\nid: 1\nretry: 5\ndata: a\n\n"], ["a"]),
        (["data: not ended\n"], []),
        (["data:  two spaces\n\n"], [" two spaces"]),
    ],
)
def test_events_are_read_however_they_are_cut(page: Page, pieces: list[str], events: list[str]) -> None:
    assert page.evaluate(READ_EVENTS, pieces) == events


def test_an_event_without_end_is_refused(page: Page) -> None:
    words = page.evaluate("""async () => {
      const { EventReader } = await import("/page/sse.js");
      const reader = new EventReader();
      try {
        for (let at = 0; at < 100; at += 1) reader.feed("x".repeat(100_000));
      } catch (error) {
        return error.message;
      }
    }""")
    assert words == "an event of the stream has no end"
