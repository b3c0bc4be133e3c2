"""An answer that went on over another path: every request is told, booked and followed; budgets and metrics agree."""

from __future__ import annotations

import json
from typing import Any

import httpx

from node.client.answer import Resolution
from node.gateway.accounts.keys import KeyLimits
from tests.unit.node.gateway.fake_inference import NAME, PATH, say
from tests.unit.node.gateway.running import RunningGateway

BODY = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20}
SAID = "abcdefgh"


def ask(gateway: RunningGateway, path: str = "/v1/chat/completions", **fields: Any) -> httpx.Response:
    gateway.inference.script, gateway.inference.move_at = say(SAID), 3
    headers = {"authorization": f"Bearer {gateway.key}"}
    return httpx.post(f"{gateway.url}{path}", json={**BODY, **fields}, headers=headers, timeout=20)


def look_up(gateway: RunningGateway, request: str) -> dict[str, Any]:
    headers = {"authorization": f"Bearer {gateway.key}"}
    found: dict[str, Any] = httpx.get(f"{gateway.url}/v1/requests/{request}", headers=headers).json()
    return found


def test_both_requests_are_told_and_name_each_other(gateway: RunningGateway) -> None:
    answer = ask(gateway)
    told = answer.json()["myelin"]
    first, second = told["requests"]
    assert answer.json()["choices"][0]["message"]["content"] == SAID
    assert answer.headers["x-myelin-request"] == second["id"], "an answer that comes whole names the latest"
    assert first["cost_nmyl"] + second["cost_nmyl"] == told["cost_nmyl"] == gateway.inference.answers[0].cost_nmyl
    assert second["continues"] == first["id"]
    (move,) = told["moves"]
    assert (move["worker"], move["tokens"], move["pause_s"]) == (PATH[0].worker.hex(), 3, 0.5)
    found = [look_up(gateway, one["id"]) for one in (first, second)]
    assert [one["progress"] for one in found] == ["moved", "done"]
    assert [one["cost_nmyl"] for one in found] == [first["cost_nmyl"], second["cost_nmyl"]]
    assert [one["generated_tokens"] for one in found] == [3, len(SAID) + 1 - 3]
    assert found[0]["continued_by"] == second["id"]
    assert found[1]["continues"] == first["id"]


def test_a_stream_keeps_its_headers_and_tells_at_its_end(gateway: RunningGateway) -> None:
    answer = ask(gateway, stream=True)
    events = [json.loads(one[6:]) for one in answer.text.splitlines() if one.startswith("data: {")]
    told = events[-1]["myelin"]
    assert answer.headers["x-myelin-request"] == told["requests"][0]["id"]
    assert len(told["requests"]) == 2
    assert [one["tokens"] for one in told["moves"]] == [3]


def test_each_choice_tells_its_own(gateway: RunningGateway) -> None:
    told = ask(gateway, n=2).json()["myelin"]
    assert [one["choice"] for one in told["moves"]] == [0, 1]
    assert len({one["id"] for one in told["requests"]}) == 4


def test_all_of_them_are_waited_for(gateway: RunningGateway) -> None:
    gateway.inference.resolution = Resolution.VERIFIED
    gateway.inference.script, gateway.inference.move_at = say(SAID), 3
    headers = {"authorization": f"Bearer {gateway.key}", "x-myelin-wait": "verified"}
    done = httpx.post(f"{gateway.url}/v1/chat/completions", json=BODY, headers=headers, timeout=20).json()
    assert [one["state"] for one in done["myelin"]["requests"]] == ["verified", "verified"]


def test_a_budget_that_holds_the_highest_price_holds_a_move_too(gateway: RunningGateway) -> None:
    price = int(ask(gateway).headers["x-myelin-price-max"])
    gateway.key = gateway.make_key(KeyLimits(budget=price), "poor")
    answer = ask(gateway)
    assert answer.status_code == 200, answer.text


def test_moves_are_counted(gateway: RunningGateway) -> None:
    ask(gateway)
    text = httpx.get(f"{gateway.url}/metrics").text
    named = f'{{gen_ai_request_model="{NAME}"}}'
    assert f"myelin_gateway_moves_total{named} 1.0" in text
    assert f"myelin_gateway_move_pause_seconds_sum{named} 0.5" in text
