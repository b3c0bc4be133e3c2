"""`kill -9` of the gateway itself in mid-stream: the next one goes on by the request's id, and the text is the same."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.gateway.network import GatewayNet, make_key, open_gateway, poll_until

pytestmark = pytest.mark.slow

STORY: Any = [{"role": "user", "content": "Tell a long story about a river and an old mill."}]
KILL_AT = 70


def read_chat(answer: httpx.Response, kill_at: int | None = None, pid: int = 0) -> tuple[str, dict[str, Any]]:
    """A stream's text as far as it comes, and what it says of its requests; the gateway is killed on the way."""
    text, told, pieces = "", {}, 0
    try:
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            piece = event["choices"][0]["delta"].get("content") or ""
            text, pieces = text + piece, pieces + bool(piece)
            told = event.get("myelin", told)
            if pieces == kill_at:
                os.kill(pid, signal.SIGKILL)
                kill_at = None
    except httpx.HTTPError:
        assert pid, "it was not to break"
    return text, told


def test_a_killed_gateway_goes_on_with_its_answers(net: GatewayNet, tmp_path: Path) -> None:
    body = {"model": net.model, "messages": STORY, "stream": True, "max_tokens": 160}
    sampled = {**body, "temperature": 0.9, "top_p": 0.9, "seed": 5}
    base = tmp_path / "gateway"
    headers = {"authorization": f"Bearer {make_key(base, 'own')}"}
    for asked in ({**body, "temperature": 0}, sampled):
        with open_gateway(tmp_path, net.plan) as (url, pid):
            chat = f"{url}/v1/chat/completions"
            with httpx.stream("POST", chat, json=asked, headers=headers, timeout=60) as answer:
                whole, _ = read_chat(answer)
            with httpx.stream("POST", chat, json=asked, headers=headers, timeout=60) as answer:
                request, session = answer.headers["x-myelin-request"], answer.headers["x-myelin-session"]
                begun, _ = read_chat(answer, KILL_AT, pid)
        assert whole.startswith(begun)
        assert 0 < len(begun) < len(whole)
        with open_gateway(tmp_path, net.plan) as (url, pid):
            own = replace(net, url=url, gateway_pid=pid, base=base, key=headers["authorization"].split()[1])
            resume = f"{url}/v1/requests/{request}/resume"
            assert httpx.post(resume, headers=net.headers).status_code == 401, "a key of another gateway"
            with httpx.stream("POST", resume, headers=headers, timeout=60) as answer:
                assert answer.headers["x-myelin-session"] != session
                text, told = read_chat(answer)
            assert text == whole
            (again,) = told["requests"]
            assert again["continues"] == request
            final = [own.wait_for(one, lambda found: found["final"]) for one in (request, again["id"])]
            assert [one["state"] for one in final] == ["verified", "verified"]
            assert (final[0]["continued_by"], final[1]["continues"]) == (again["id"], request)
            assert 0 < final[0]["cost_nmyl"] <= final[0]["price_max_nmyl"], "what was vouched for by then"
            print("nmyl of both:", [one["price_nmyl"] for one in final])
            over = httpx.post(resume, headers=headers)
            assert (over.status_code, over.json()["error"]["code"]) == (409, "request_not_resumable")
            poll_until(lambda: not list((base / "running").iterdir()))
