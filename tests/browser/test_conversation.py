"""A whole conversation: ask, read, edit, retry, branches, reload, delete, export, parameters, models, key."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, expect

from tests.browser.answers import Refuse, Step, make_delta, make_end, make_headers, tell
from tests.browser.conftest import OpenPage, ask
from tests.browser.gateway import FakeGateway


def say_back(body: dict[str, Any]) -> list[Step]:
    """An answer that tells what was asked, and how often so far."""
    return list(tell(f"You said **{body['messages'][-1]['content']}**."))


def test_a_question_is_answered_with_its_figures(page: Page, gateway: FakeGateway) -> None:
    gateway.script = say_back
    ask(page, "a first question")
    answer = page.get_by_role("article", name="Answer")
    expect(answer.locator("strong")).to_have_text("a first question")
    expect(answer.locator(".figures")).to_contain_text("57 tokens")
    expect(answer.locator(".figures")).to_contain_text("first after")
    expect(answer.locator(".figures")).to_contain_text("0.1632 MYL")
    expect(page.get_by_label("Your question", exact=True)).to_have_value("")
    expect(page.get_by_label("Your question", exact=True)).to_be_focused()
    body = gateway.asked[0]
    assert body["model"] == gateway.models[0]
    assert body["messages"] == [{"role": "user", "content": "a first question"}]
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert "temperature" not in body, "what is left empty is left to the gateway"


def test_the_next_question_tells_all_that_was_said(page: Page, gateway: FakeGateway) -> None:
    gateway.script = say_back
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    ask(page, "two")
    expect(page.locator(".figures")).to_have_count(2)
    said = [(one["role"], one["content"]) for one in gateway.asked[1]["messages"]]
    assert said == [("user", "one"), ("assistant", "You said **one**."), ("user", "two")]


def test_an_edited_question_begins_a_branch(page: Page, gateway: FakeGateway) -> None:
    gateway.script = say_back
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    ask(page, "two")
    expect(page.locator(".figures")).to_have_count(2)
    page.get_by_role("button", name="Edit the question").first.click()
    page.get_by_label("Edit your question").fill("other")
    page.get_by_role("button", name="Ask anew").click()
    expect(page.locator(".answer strong")).to_have_text(["other"])
    assert [one["content"] for one in gateway.asked[2]["messages"]] == ["other"]
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".answer strong")).to_have_text(["one", "two"])
    page.get_by_role("button", name="The version after").click()
    expect(page.locator(".answer strong")).to_have_text(["other"])


def test_a_retried_answer_stands_beside_the_first(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: tell(f"Answer {len(gateway.asked)}.")
    ask(page, "one")
    expect(page.locator(".prose")).to_have_text("Answer 1.")
    page.get_by_role("button", name="Retry this answer").click()
    expect(page.locator(".prose")).to_have_text("Answer 2.")
    expect(page.locator(".answer .branches")).to_contain_text("2 / 2")
    assert gateway.asked[0]["messages"] == gateway.asked[1]["messages"]
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".prose")).to_have_text("Answer 1.")


def test_a_reload_keeps_conversations_and_the_branch_shown(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: tell(f"Answer {len(gateway.asked)}.")
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    page.get_by_role("button", name="Retry this answer").click()
    expect(page.locator(".prose")).to_have_text("Answer 2.")
    expect(page.locator(".figures")).to_have_count(1)
    page.get_by_role("button", name="The version before").click()
    expect(page.locator(".prose")).to_have_text("Answer 1.")
    page.reload()
    expect(page.locator(".bubble")).to_have_text("one")
    expect(page.locator(".prose")).to_have_text("Answer 1.")
    expect(page.locator(".answer .branches")).to_contain_text("1 / 2")


def test_conversations_are_opened_deleted_and_brought_back(page: Page, gateway: FakeGateway) -> None:
    gateway.script = say_back
    chats = page.get_by_role("navigation", name="Conversations")
    for question in ("first", "second"):
        chats.get_by_role("button", name="New conversation").click()
        ask(page, question)
        expect(page.locator(".figures")).to_have_count(1)
    chats.get_by_role("button", name="first", exact=True).click()
    expect(page.locator(".bubble")).to_have_text("first")
    chats.get_by_role("button", name="Delete “first”").click()
    expect(page.locator(".bubble")).to_have_text("second")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".bubble")).to_have_text("first")
    chats.get_by_role("button", name="Delete all").click()
    expect(page.get_by_role("heading", name="Ask the network")).to_be_visible()
    page.reload()
    expect(chats.get_by_role("listitem")).to_have_count(0)
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('myelin.chat.'))") == []


def test_conversations_are_exported_as_json(page: Page, gateway: FakeGateway, tmp_path: Path) -> None:
    gateway.script = say_back
    ask(page, "keep this")
    expect(page.locator(".figures")).to_have_count(1)
    with page.expect_download() as download:
        page.get_by_role("button", name="Export this").click()
    assert download.value.suggested_filename.startswith("myelin-conversation-")
    download.value.save_as(tmp_path / "export.json")
    exported = json.loads((tmp_path / "export.json").read_text("utf-8"))
    assert exported["format"] == "myelin-conversations/1"
    (chat,) = exported["conversations"]
    assert {one["text"] for one in chat["nodes"].values()} == {"keep this", "You said **keep this**."}


def test_damaged_storage_is_passed_over(page: Page, gateway: FakeGateway) -> None:
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    page.evaluate("""() => {
      localStorage.setItem("myelin.chat.bad1", "{");
      const loop = { id: "a", role: "user", text: "x", parent: "a" };
      localStorage.setItem("myelin.chat.bad2", JSON.stringify({ id: "bad2", nodes: { a: loop } }));
      localStorage.setItem("myelin.chat.bad3", "null");
      localStorage.setItem("myelin.settings", "[1");
    }""")
    page.reload()
    expect(page.locator(".bubble")).to_have_text("one")
    expect(page.get_by_role("navigation").get_by_role("listitem")).to_have_count(1)


def test_what_another_tab_adds_and_deletes_is_seen(page: Page, gateway: FakeGateway) -> None:
    gateway.script = say_back
    other = page.context.new_page()
    other.goto(gateway.url)
    other.get_by_label("Model", exact=True).wait_for()
    ask(other, "from the other tab")
    expect(other.locator(".figures")).to_have_count(1)
    expect(page.locator(".bubble")).to_have_text("from the other tab")
    expect(page.locator(".figures")).to_have_count(1)
    page.get_by_role("button", name="Delete “from the other tab”").click()
    expect(other.get_by_role("heading", name="Ask the network")).to_be_visible()


def test_parameters_and_model_are_sent_and_kept(page: Page, gateway: FakeGateway) -> None:
    page.get_by_text("Parameters").click()
    for label, value in (("Temperature", "0.7"), ("Top p", "0.9"), ("Max tokens", "32"), ("Seed", "7")):
        page.get_by_label(label).fill(value)
    page.get_by_label("System prompt").fill("Be brief.")
    page.get_by_label("Model", exact=True).select_option(gateway.models[1])
    page.reload()
    expect(page.get_by_text("5 set")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value(gateway.models[1])
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    body = gateway.asked[0]
    sent = {name: body[name] for name in ("model", "temperature", "top_p", "max_tokens", "seed")}
    assert sent == {"model": gateway.models[1], "temperature": 0.7, "top_p": 0.9, "max_tokens": 32, "seed": 7}
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_gateway_that_wants_a_key_gets_it_in_a_header_alone(gateway: FakeGateway, open_page: OpenPage) -> None:
    gateway.key = "myelin-secret-1"
    page = open_page()
    dialog = page.get_by_role("dialog", name="API key")
    dialog.get_by_label("Key").fill("wrong")
    dialog.get_by_role("button", name="Use this key").click()
    expect(dialog.get_by_role("alert")).to_contain_text("not known")
    dialog.get_by_label("Key").fill("myelin-secret-1")
    dialog.get_by_label("Key").press("Enter")
    expect(page.get_by_label("Model", exact=True)).to_be_visible()
    ask(page, "one")
    expect(page.locator(".figures")).to_have_count(1)
    assert "secret" not in page.url
    assert not any("secret" in path for path in gateway.paths)
    assert page.evaluate("JSON.stringify(localStorage)").count("secret") == 0
    page.reload()
    expect(page.get_by_label("Model", exact=True)).to_be_visible()
    page.get_by_role("button", name="Change the API key").click()
    page.get_by_role("button", name="Forget the key").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_an_open_gateway_asks_for_no_key(page: Page) -> None:
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_no_model_says_so_and_tries_again(gateway: FakeGateway, open_page: OpenPage) -> None:
    gateway.models = []
    page = open_page()
    expect(page.get_by_role("alert")).to_have_text("This gateway offers no model now.")
    page.get_by_label("Your question", exact=True).fill("one")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    gateway.models = ["tiny"]
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_label("Model", exact=True)).to_have_value("tiny")


def test_a_model_without_workers_says_so_and_is_not_the_first_choice(gateway: FakeGateway, open_page: OpenPage) -> None:
    gateway.unserved = {gateway.models[0]}
    page = open_page()
    choice = page.get_by_label("Model", exact=True)
    expect(choice).to_have_value(gateway.models[1])
    expect(choice.get_by_role("option", name=f"{gateway.models[0]} (no workers now)")).to_be_attached()


def test_answers_and_code_are_copied(gateway: FakeGateway, open_page: OpenPage) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    gateway.script = lambda body: tell("Code:\n\n```python\nprint(1)\n```\n")
    ask(page, "one")
    page.get_by_role("button", name="Copy the python code").click()
    expect(page.locator(".code").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "print(1)"
    page.get_by_role("button", name="Copy the answer").click()
    expect(page.locator(".tools").get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "Code:\n\n```python\nprint(1)\n```\n"


def test_an_answer_that_reached_its_longest_length_says_so(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: [make_headers(), make_delta("a b"), *make_end(tokens=2, finish="length")]
    ask(page, "one")
    expect(page.locator(".ending")).to_contain_text("longest length")


def test_refusals_are_told_with_what_the_gateway_said(page: Page, gateway: FakeGateway) -> None:
    gateway.script = lambda body: [
        Refuse(429, "Too many requests with this key.", "rate_limit_exceeded", retry_after=12)
    ]
    ask(page, "one")
    alert = page.locator(".ending")
    expect(alert).to_contain_text("Too many requests with this key. Try again in 12 s.")
    expect(alert).to_contain_text("rate_limit_exceeded")
    gateway.script = lambda body: tell("Now it works.")
    page.get_by_role("button", name="Retry this answer").click()
    expect(page.locator(".prose")).to_have_text("Now it works.")
    expect(page.locator(".ending")).to_have_count(0)
