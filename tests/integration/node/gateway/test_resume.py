"""A gateway is killed in mid-stream, and the next one goes on with the answer by its request id, in every form."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.unit.node.gateway.fake_inference import NAME, TOKENS, say
from tests.unit.node.gateway.running import RunningGateway, make_gateway, run_in_thread

SAID = "abcdefgh"
HELD = 4
"""Tokens that the killed process delivers."""
CHAT = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "stream": True, "max_tokens": 50}
FORMS: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", {**CHAT, "logprobs": True, "top_logprobs": 2}),
    ("/v1/completions", {"model": NAME, "prompt": "Hello", "stream": True, "max_tokens": 50}),
    ("/v1/messages", CHAT),
    ("/v1/responses", {"model": NAME, "input": "Hello", "stream": True}),
]


def kill_in_mid_stream(directory: Path, path: str, body: dict[str, Any]) -> tuple[list[str], int]:
    """The request ids of an answer whose gateway is killed once all of its tokens came that will; and their number."""
    root = Path(__file__).parents[4]
    argv = [sys.executable, str(Path(__file__).with_name("serve_and_hold.py")), str(directory)]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    with subprocess.Popen(argv, stdout=subprocess.PIPE, cwd=root, env=environment) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        with httpx.stream("POST", f"http://127.0.0.1:{port}{path}", json=body, timeout=20) as answer:
            heard = ""
            for piece in answer.iter_text():
                heard += piece
                if heard.count(f'"{SAID[HELD - 1]}"') == body.get("n", 1):
                    process.send_signal(signal.SIGKILL)  # before the stream is left, which would cancel it
                    process.wait()
                    break
    return answer.headers["x-myelin-request"].split(","), len(heard)


@contextmanager
def run_again(directory: Path, **changes: Any) -> Iterator[RunningGateway]:
    gateway = make_gateway(directory, is_open=True, **changes)
    gateway.inference.script = say(SAID)
    with run_in_thread(gateway) as running:
        yield running


def resume(gateway: RunningGateway, request: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v1/requests/{request}/resume", headers=headers, timeout=20)


def read_events(answer: httpx.Response) -> list[Any]:
    assert answer.status_code == 200, answer.text
    lines = [one.removeprefix("data: ") for one in answer.text.splitlines() if one.startswith("data: {")]
    return [json.loads(one) for one in lines]


def read_text(events: list[Any]) -> str:
    """Of any form."""
    text = ""
    for one in events:
        for choice in one.get("choices", []):
            text += choice.get("text") or choice.get("delta", {}).get("content") or ""
        delta = one.get("delta", "")
        if one.get("type") in ("content_block_delta", "response.output_text.delta"):
            text += delta if isinstance(delta, str) else delta.get("text", "")
    return text


@pytest.mark.parametrize(("path", "body"), FORMS)
def test_the_answer_goes_on_in_its_own_form(tmp_path: Path, path: str, body: dict[str, Any]) -> None:
    (request,), _ = kill_in_mid_stream(tmp_path, path, body)
    (journal,) = (tmp_path / "running").iterdir()
    assert journal.stat().st_mode & 0o777 == 0o600
    assert journal.parent.stat().st_mode & 0o777 == 0o700
    with run_again(tmp_path) as gateway:
        answer = resume(gateway, request)
        assert read_text(read_events(answer)) == SAID
        (ask,) = gateway.inference.asked
        assert ask.before is not None
        assert (ask.before.request.hex(), len(ask.answered), ask.before.epoch) == (request, HELD, 1)
        again = answer.headers["x-myelin-request"]
        found = {one: httpx.get(f"{gateway.url}/v1/requests/{one}").json() for one in (request, again)}
        assert found[request]["continued_by"] == again
        assert found[again]["continues"] == request
        assert (found[request]["progress"], found[again]["progress"]) == ("interrupted", "done")
        assert list(journal.parent.iterdir()) == []
        for one in (request, again):
            over = resume(gateway, one)
            assert (over.status_code, over.json()["error"]["code"]) == (409, "request_not_resumable")


def test_what_is_scored_is_scored_once(tmp_path: Path) -> None:
    (request,), _ = kill_in_mid_stream(tmp_path, *FORMS[1])
    with run_again(tmp_path) as gateway:
        events = read_events(resume(gateway, request))
        choices = [one["choices"][0] for one in events if one["choices"]]
        scores = [row["token"] for one in choices for row in (one.get("logprobs") or {}).get("content", [])]
    assert "".join(scores).startswith(SAID)
    assert len(scores) == len(SAID) + 1


def test_all_choices_of_a_call_go_on_by_the_id_of_any(tmp_path: Path) -> None:
    requests, _ = kill_in_mid_stream(tmp_path, "/v1/chat/completions", {**CHAT, "n": 3})
    assert len(requests) == 3
    with run_again(tmp_path) as gateway:
        events = read_events(resume(gateway, requests[1]))
        texts = ["", "", ""]
        for one in events:
            for choice in one["choices"]:
                texts[choice["index"]] += choice["delta"].get("content") or ""
        assert texts == [SAID] * 3
        assert sorted(one.before.request.hex() for one in gateway.inference.asked if one.before) == sorted(requests)


def test_an_answer_that_was_not_streamed_comes_whole(tmp_path: Path) -> None:
    with run_again(tmp_path) as gateway:
        gateway.inference.hold_at = HELD
        body = {**CHAT, "stream": False}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{gateway.url}/v1/chat/completions", json=body, timeout=2)
        (request,) = (one.request.hex() for one in gateway.inference.answers)
        assert resume(gateway, request).status_code == 409, "its client has left: it was cancelled"


def test_who_may_not_resume(tmp_path: Path) -> None:
    (request,), _ = kill_in_mid_stream(tmp_path, "/v1/chat/completions", CHAT)
    with run_in_thread(make_gateway(tmp_path)) as keyed:
        named = {"authorization": f"Bearer {keyed.key}"}
        for one in (request, "ab" * 32, "nonsense"):
            other = resume(keyed, one, **named)
            assert (other.status_code, other.json()["error"]["code"]) == (404, "request_not_found")
        assert resume(keyed, request).status_code == 401
    with run_again(tmp_path) as gateway:
        gateway.inference.hold_at = 2
        with httpx.stream("POST", f"{gateway.url}/v1/requests/{request}/resume", timeout=20) as going:
            pieces = going.iter_bytes()
            next(pieces)
            running = resume(gateway, request)
            assert (running.status_code, running.json()["error"]["code"]) == (409, "request_running")


def test_an_answer_is_resumed_again_after_the_next_death(tmp_path: Path) -> None:
    """The second process is stopped while it goes on: what it wrote counts, and its orders are of a later epoch."""
    (request,), _ = kill_in_mid_stream(tmp_path, "/v1/chat/completions", CHAT)
    with run_again(tmp_path) as gateway:
        gateway.inference.hold_at = 2
        with httpx.stream("POST", f"{gateway.url}/v1/requests/{request}/resume", timeout=20) as going:
            (second,) = going.headers["x-myelin-request"].split(",")
            (journal,) = (tmp_path / "running").iterdir()
            copy = journal.read_bytes()
    journal.write_bytes(copy)  # as a death leaves it
    with run_again(tmp_path) as gateway:
        assert read_text(read_events(resume(gateway, second))) == SAID
        (ask,) = gateway.inference.asked
        assert ask.before is not None
        assert ask.before.request.hex() == second
        assert ask.before.epoch > 1
        assert list(ask.answered) == [TOKENS.index(one) for one in SAID[: len(ask.answered)]]


@pytest.mark.parametrize("damage", ["torn", "garbage", "empty"])
def test_a_damaged_journal_costs_no_more_than_itself(tmp_path: Path, damage: str) -> None:
    (request,), _ = kill_in_mid_stream(tmp_path, "/v1/chat/completions", CHAT)
    (journal,) = (tmp_path / "running").iterdir()
    data = journal.read_bytes()
    journal.write_bytes({"torn": data[:-3], "garbage": b"\xff\n" + data, "empty": b""}[damage])
    with run_again(tmp_path) as gateway:
        answer = resume(gateway, request)
        if damage == "torn":
            assert read_text(read_events(answer)) == SAID
            assert len(gateway.inference.asked[0].answered) == HELD - 1
        else:
            assert answer.status_code == 409
            assert not journal.exists()
