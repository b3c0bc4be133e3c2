"""Under each answer: who computed it at what price, and what the chain says until its word is final."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.answers import (
    COST_NMYL,
    DONE,
    PATH,
    REQUEST,
    SESSION,
    make_delta,
    make_event,
    make_headers,
    make_proof,
)
from tests.browser.conftest import ask
from tests.browser.gateway import FakeGateway

AWAITED = ("awaiting_draw",) * 3


def test_the_route_and_the_ids_are_shown(page: Page, gateway: FakeGateway) -> None:
    ask(page, "one")
    page.get_by_text("Route and proof").click()
    rows = page.locator(".proof tbody tr")
    expect(rows).to_have_count(3)
    for index, one in enumerate(PATH):
        expect(rows.nth(index)).to_contain_text(f"{one['start']}–{int(str(one['end'])) - 1}")
        expect(rows.nth(index)).to_contain_text(f"{one['prefill_price']} / {one['decode_price']}")
        expect(rows.nth(index).locator("code")).to_have_attribute("title", str(one["worker"]))
    expect(page.locator(f'.ids code[title="{REQUEST}"]')).to_be_visible()
    expect(page.locator(f'.ids code[title="{SESSION}"]')).to_be_visible()
    expect(page.locator(".ids")).to_contain_text("44 read, 57 written")
    expect(page.locator(".verdict")).to_contain_text("its settlement is not on the chain yet")


def test_the_state_is_followed_until_it_is_final(page: Page, gateway: FakeGateway) -> None:
    gateway.proofs[REQUEST] = [
        make_proof("pending"),
        make_proof("settled", *AWAITED),
        make_proof("paid", "paid", "paid", "paid", drawn=(0, 2)),
    ]
    page.clock.install()
    ask(page, "one")
    badge = page.locator(".figures .badge")
    for words in ("settling", "settled", "paid, not all checked"):
        page.clock.run_for(1_000)
        expect(badge).to_have_text(words)
    page.get_by_text("Route and proof").click()
    rows = page.locator(".proof tbody tr")
    expect(rows.nth(0)).to_contain_text("recomputed: samedistance 4.1 % of the threshold")
    expect(rows.nth(1)).to_contain_text("not drawn: paid")
    page.clock.run_for(60_000)
    page.evaluate("fetch('/v1/models').then((response) => response.text())")  # what was asked before has arrived
    asked = [path for path in gateway.paths if path.startswith("/v1/requests/")]
    assert len(asked) == 3, "nothing is asked once the word is final"


@pytest.mark.parametrize(
    ("proof", "badge", "sentence"),
    [
        (make_proof("paid", "paid", "paid", "paid"), "paid, not all checked", "nobody has recomputed this answer"),
        (
            make_proof("paid", "paid", "paid", "paid", drawn=(1,)),
            "paid, not all checked",
            "1 of 3 workers' parts was drawn and recomputed",
        ),
        (make_proof("verified", "paid", "paid", "paid", drawn=(0, 1, 2)), "verified", "not the whole"),
        (make_proof("lost"), "never settled", "nothing was paid"),
        (make_proof("cancelled"), "not charged", "Nothing was charged"),
        (
            make_proof("refunded", "paid", "refunded", "paid", drawn=(1,), returned=50_000_000),
            "refunded",
            "nothing was proven wrong, and nothing right",
        ),
        (
            make_proof("slashed", "paid", "slashed", "paid", drawn=(1,), returned=COST_NMYL),
            "proven wrong",
            "Do not rely on this answer.",
        ),
        (make_proof("some_new_state"), "some_new_state", "has no words for it"),
    ],
    ids=lambda value: value["state"] if isinstance(value, dict) else "",
)
def test_every_end_is_told_in_an_honest_sentence(
    page: Page, gateway: FakeGateway, proof: dict[str, object], badge: str, sentence: str
) -> None:
    gateway.proofs[REQUEST] = [proof]
    ask(page, "one")
    expect(page.locator(".figures .badge")).to_have_text(badge)
    page.get_by_text("Route and proof").click()
    expect(page.locator(".verdict")).to_contain_text(sentence)


def test_what_came_back_is_told_and_taken_from_the_cost(page: Page, gateway: FakeGateway) -> None:
    gateway.proofs[REQUEST] = [make_proof("refunded", "paid", "refunded", "paid", drawn=(1,), returned=50_000_000)]
    ask(page, "one")
    expect(page.locator(".figures")).to_contain_text("0.1132 MYL")
    page.get_by_text("Route and proof").click()
    expect(page.locator(".request")).to_contain_text("0.05 MYL of 0.1632 MYL came back to the payer.")


def test_a_request_that_is_not_known_yet_is_asked_for_again(page: Page, gateway: FakeGateway) -> None:
    ask(page, "one")
    expect(page.locator(".figures .badge")).to_have_text("settling")
    gateway.proofs[REQUEST] = [make_proof("paid", "paid", "paid", "paid")]
    expect(page.locator(".figures .badge")).to_have_text("paid, not all checked")


def test_following_is_taken_up_after_a_reload(page: Page, gateway: FakeGateway) -> None:
    gateway.proofs[REQUEST] = [make_proof("settled", *AWAITED)]
    ask(page, "one")
    expect(page.locator(".figures .badge")).to_have_text("settled")
    gateway.proofs[REQUEST] = [make_proof("paid", "paid", "paid", "paid")]
    page.reload()
    expect(page.locator(".figures .badge")).to_have_text("paid, not all checked")


def test_what_a_failed_answer_cost_is_told_too(page: Page, gateway: FakeGateway) -> None:
    cost = {"requests": [{"id": REQUEST, "cost_nmyl": 20_000_000, "state": "pending"}], "session": SESSION}
    error = {"message": "No worker is left.", "type": "server_error", "code": "upstream_gone", "myelin": cost}
    gateway.script = lambda body: [make_headers(), make_delta("Half an"), make_event({"error": error}), DONE]
    ask(page, "one")
    expect(page.locator(".ending")).to_contain_text("No worker is left.")
    expect(page.locator(".figures")).to_contain_text("0.02 MYL")


def test_a_request_that_was_never_booked_is_not_asked_for(page: Page, gateway: FakeGateway) -> None:
    cost = {"requests": [{"id": "", "cost_nmyl": 0, "state": "cancelled"}]}
    headers = {"x-request-id": "req_1"}
    gateway.script = lambda body: [headers, make_event({"error": {"message": "No path.", "myelin": cost}}), DONE]
    ask(page, "one")
    expect(page.locator(".ending")).to_contain_text("No path.")
    expect(page.locator(".proof")).to_have_count(0)
    assert not any("/v1/requests" in path for path in gateway.paths)


@pytest.mark.parametrize(
    ("nmyl", "words"),
    [
        (COST_NMYL, "0.1632 MYL"),
        (0, "0 MYL"),
        (7_380, "7,380 nmyl"),
        (100_000, "0.0001 MYL"),
        (12_345_678_900_000, "12,345.6789 MYL"),
        (None, None),
    ],
)
def test_amounts_are_readable(page: Page, nmyl: int | None, words: str | None) -> None:
    assert page.evaluate("async (nmyl) => (await import('/page/proof.js')).formatMyl(nmyl)", nmyl) == words
