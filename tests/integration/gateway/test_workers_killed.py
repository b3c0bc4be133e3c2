"""`kill -9` of one of two workers that serve the same layers: answers go on with the same text, and are told of it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from consensus.runtime.balances.state import read_account
from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from genesis.dev import get_dev_identity
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from tests.integration.gateway.network import GatewayNet, make_key, open_gateway, poll_until

pytestmark = pytest.mark.slow

HELLO: Any = [{"role": "user", "content": "What is the capital of France?"}]
STORY: Any = [{"role": "user", "content": "Tell a long story about a river and an old mill."}]
WORDS = "The river runs past the old mill and the town where nobody sleeps. " * 120


def find_upper(net: GatewayNet, path: str) -> str:
    """Name of the worker of the upper layers in an x-myelin-path."""
    place = path.split(",")[1].partition(":")[0]
    (name,) = [
        one.name for one in net.plan.workers if get_dev_key(one.name, KeyKind.WORKER).public_key.hex().startswith(place)
    ]
    return name


def read_events(lines: Iterator[str]) -> list[Any]:
    told = [one.removeprefix("data: ") for one in lines if one.startswith("data: ")]
    assert told[-1] == "[DONE]"
    return [json.loads(one) for one in told[:-1]]


def read_escrow(net: GatewayNet, session: str) -> int:
    """What the chain holds for a session; 0 once it was returned."""
    found = net.read(queries.read_session, bytes.fromhex(session))
    return 0 if found is None else int(found.escrow)


def read_free(net: GatewayNet) -> int:
    """The free money of the account that both gateways pay from."""
    return int(net.read(read_account, get_dev_identity("client").account).free)


def ask_until_served(client: openai.OpenAI, model: str) -> Any:
    """An answer, once a worker that was just started takes requests."""
    answers: list[Any] = []

    def is_served() -> bool:
        with suppress(openai.InternalServerError):
            made = client.chat.completions.with_raw_response.create(model=model, messages=HELLO, max_tokens=24)
            answers.append(made)
        return bool(answers)

    poll_until(is_served, 30)
    return answers[0]


@contextmanager
def killed(net: GatewayNet, name: str) -> Iterator[None]:
    net.kill(name)
    try:
        yield
    finally:
        net.start(name)


def test_before_the_first_token_another_worker_takes_over(net: GatewayNet) -> None:
    body = {"model": net.model, "messages": [{"role": "user", "content": WORDS}], "stream": True, "max_tokens": 8}
    with httpx.stream("POST", f"{net.url}/v1/chat/completions", json=body, headers=net.headers, timeout=120) as answer:
        first = answer.headers["x-myelin-request"]
        with killed(net, find_upper(net, answer.headers["x-myelin-path"])):
            events = read_events(answer.iter_lines())
            assert not [one for one in events if "error" in one]
            assert "".join(one["choices"][0]["delta"].get("content") or "" for one in events)
            told = events[-1]["myelin"]
            assert told["requests"][-1]["id"] != first, "it was over before the worker died"
            assert [one["tokens"] for one in told["moves"]] == [0]
            took_s = []
            with openai.OpenAI(api_key=net.key, base_url=f"{net.url}/v1", max_retries=0, timeout=60) as client:
                for _ in range(7):
                    began_s = time.monotonic()
                    done = client.chat.completions.create(model=net.model, messages=HELLO, max_tokens=24, temperature=0)
                    took_s.append(time.monotonic() - began_s)
                    assert "Paris" in (done.choices[0].message.content or "")
            print("seconds of the next seven:", [round(one, 2) for one in took_s])
    known = {one["id"]: one["cost_nmyl"] for one in told["requests"]}
    assert net.look_up(first)["cost_nmyl"] == known.get(first, 0), "what had been signed of the prompt by then"


def stream_chat(net: GatewayNet, kill_at: int | None = None, **fields: Any) -> tuple[str, dict[str, Any], str]:
    """An answer's text, what it says of its requests, and the worker of the upper layers that was killed on the way."""
    body = {"model": net.model, "messages": STORY, "stream": True, "max_tokens": 160, **fields}
    text, told, pieces, name = "", {}, 0, ""
    with httpx.stream("POST", f"{net.url}/v1/chat/completions", json=body, headers=net.headers, timeout=120) as answer:
        serving = find_upper(net, answer.headers["x-myelin-path"])
        for line in answer.iter_lines():
            if not line.startswith("data: {"):
                continue
            event = json.loads(line.removeprefix("data: "))
            assert "error" not in event, event
            piece = event["choices"][0]["delta"].get("content") or ""
            text, pieces = text + piece, pieces + bool(piece)
            told = event.get("myelin", told)
            if pieces == kill_at and not name:
                name = serving
                net.kill(name)
    return text, told, name


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"temperature": 0}, marks=pytest.mark.nightly),  # greedy answers are in tests/integration/demo
        {"temperature": 0.9, "top_p": 0.9, "seed": 11},
    ],
)
def test_in_mid_stream_another_worker_goes_on_with_the_same_text(net: GatewayNet, fields: dict[str, Any]) -> None:
    whole, once, _ = stream_chat(net, **fields)
    assert (len(once["requests"]), once["moves"]) == (1, [])
    text, told, name = stream_chat(net, kill_at=70, **fields)
    net.start(name)
    assert text == whole
    (move,) = told["moves"]
    assert move["worker"] == get_dev_key(name, KeyKind.WORKER).public_key.hex()
    assert move["pause_s"] > 0
    assert len(move["successors"]) == 1
    print("seconds of the pause:", move["pause_s"], "after tokens:", move["tokens"])
    first, second = (one["id"] for one in told["requests"])
    final = [net.wait_for(one, lambda found: found["final"]) for one in (first, second)]
    assert [one["state"] for one in final] == ["verified", "verified"]
    assert [one["progress"] for one in final] == ["moved", "done"]
    assert (final[0]["continued_by"], final[0]["continues"]) == (second, None)
    assert (final[1]["continued_by"], final[1]["continues"]) == (None, first)
    assert [one["cost_nmyl"] for one in told["requests"]] == [one["price_nmyl"] for one in final]
    assert sum(one["generated_tokens"] for one in final) == 160
    metrics = httpx.get(f"{net.url}/metrics").text
    assert f'myelin_gateway_moves_total{{gen_ai_request_model="{net.model}"}}' in metrics
    assert "myelin_gateway_move_pause_seconds_bucket" in metrics


def test_a_killed_worker_is_avoided_after_its_first_failure_and_found_again_where_it_comes_back(
    net: GatewayNet,
) -> None:
    def ask() -> tuple[str, float]:
        began_s = time.monotonic()
        answer = net.chat("What is the capital of France?", max_tokens=8)
        assert answer.status_code == 200, answer.text
        return find_upper(net, answer.headers["x-myelin-path"]), time.monotonic() - began_s

    def count_failed() -> int:
        return (net.base.parent / "gateway.log").read_text().count("another path is tried")

    ask()
    name, _ = ask()
    failed = count_failed()
    with killed(net, name):
        served = [ask() for _ in range(6)]
    assert name not in {one for one, _ in served}
    assert count_failed() - failed <= 1, "only the first request may have found out"
    (other,) = {one for one, _ in served}
    with killed(net, other):
        back, took_s = ask()
    assert back == name, "nobody else serves the layers"
    print("seconds after the first kill:", [round(one, 2) for _, one in served], "after the second:", round(took_s, 2))


def test_without_a_spare_the_client_is_told_and_the_escrow_comes_back(net: GatewayNet, tmp_path: Path) -> None:
    """Through a gateway of its own, whose session closes with it. Of the lost request only who is left settles."""
    with ExitStack() as starting:  # at its end: started before, the worker would settle its own part
        with open_gateway(tmp_path, net.plan) as (url, pid):
            own = replace(
                net, url=url, gateway_pid=pid, base=tmp_path / "gateway", key=make_key(tmp_path / "gateway", "own")
            )
            with openai.OpenAI(api_key=own.key, base_url=f"{url}/v1", max_retries=0, timeout=60) as client:
                raw = client.chat.completions.with_raw_response.create(
                    model=net.model, messages=HELLO, max_tokens=2_000, stream=True, logit_bias={"0": -100, "2": -100}
                )
                request, session = raw.headers["x-myelin-request"], raw.headers["x-myelin-session"]
                stream = raw.parse()
                pieces = 0
                name = find_upper(net, raw.headers["x-myelin-path"])
                idle = next(one for one in ("worker-2", "worker-3") if one != name)
                net.kill(idle)
                with pytest.raises(openai.APIError) as lost:  # noqa: PT012
                    for chunk in stream:
                        pieces += bool(chunk.choices[0].delta.content)
                        if pieces == 100:
                            net.kill(name)
                            starting.callback(net.start, name)
                            pieces += 1
                assert pieces > 100
                assert lost.value.code == "worker_lost"
                assert isinstance(lost.value.body, dict)
                told = lost.value.body["myelin"]
                assert told["cost_nmyl"] > 0
                known = own.look_up(request)
                assert (known["progress"], known["cost_nmyl"]) == ("failed", told["cost_nmyl"])
                assert known["cost_nmyl"] < known["price_max_nmyl"] / 4
                net.start(idle)
                after = ask_until_served(client, net.model)
                assert after.headers["x-myelin-session"] == session, "the deposit goes on paying"
                assert find_upper(net, after.headers["x-myelin-path"]) != name
                paid = own.wait_for(after.headers["x-myelin-request"], lambda one: one["final"])
                assert paid["state"] == "verified"
                free, deposit = read_free(net), net.read(queries.read_session, bytes.fromhex(session)).deposit
        poll_until(lambda: read_escrow(net, session) == 0, 60)
        back = read_free(net) - free
        settled = net.read(queries.read_request, bytes.fromhex(request))
    lower, upper = settled.stages
    assert (upper.status, upper.gross) == (StageStatus.MISSING, 0)
    assert 0 < settled.price == lower.gross < known["cost_nmyl"]
    fees = deposit - paid["price_nmyl"] - settled.price - back
    assert 0 <= fees < lower.gross // 100, "the rest came back, what the dead worker would have got too"
