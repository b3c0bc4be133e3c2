"""A gateway's answers settle together: forty of one session are one to three records on chain, judged and paid."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from consensus.runtime.inference import queries
from tests.integration.gateway.network import CLI, GatewayNet, make_key, open_gateway, poll_until

pytestmark = pytest.mark.slow

ANSWERS = 40
AT_ONCE = 8
STATEMENTS_MAX = ANSWERS // 4
"""Two seconds after the first answer of each the next is made, and the machine may be slow."""


def ask(net: GatewayNet, number: int, **headers: str) -> httpx.Response:
    body = {
        "model": net.model,
        "messages": [{"role": "user", "content": f"Say the number {number}."}],
        "max_tokens": 4,
        "temperature": 0,
    }
    return httpx.post(f"{net.url}/v1/chat/completions", json=body, headers={**net.headers, **headers}, timeout=120)


@pytest.fixture
def own(net: GatewayNet, tmp_path: Path) -> Iterator[GatewayNet]:
    """A gateway of its own: no answers of other tests are in its statements."""
    with open_gateway(tmp_path, net.plan) as (url, pid):
        base = tmp_path / "gateway"
        yield replace(net, url=url, gateway_pid=pid, base=base, key=make_key(base, "own"))


def test_forty_answers_are_few_settlements(own: GatewayNet) -> None:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        answers = list(threads.map(lambda number: ask(own, number), range(ANSWERS)))
    assert [one.status_code for one in answers] == [200] * ANSWERS
    ids = [one.headers["x-myelin-request"] for one in answers]
    found: list[dict[str, Any]] = []

    def are_final() -> bool:
        found[:] = [own.look_up(one) for one in ids]
        return all(one["final"] for one in found)

    poll_until(are_final, 120)
    (session,) = {one["session"] for one in found}
    statements = {one["statement"] for one in found}
    assert None not in statements
    assert len(statements) <= STATEMENTS_MAX
    assert {one["state"] for one in found} == {"verified"}
    shown = dict(own.read(queries.list_requests, bytes.fromhex(session)))
    records = [own.read(queries.read_request, bytes.fromhex(one)) for one in statements]
    assert {one.hex() for one in shown.values()} >= statements
    assert sum(one.requests for one in records) == ANSWERS
    assert sum(one.price for one in records) == sum(one["price_nmyl"] for one in found)
    print(f"{ANSWERS} answers in {len(statements)} statements of {sorted(one.requests for one in records)}")


def test_who_waits_for_the_chain_settles_alone(net: GatewayNet) -> None:
    answer = ask(net, 1, **{"x-myelin-wait": "verified"})
    known = net.look_up(answer.headers["x-myelin-request"])
    assert (known["state"], known["statement"]) == ("verified", None)


def test_a_chat_settles_at_its_end_and_its_answers_are_found(net: GatewayNet, tmp_path: Path) -> None:
    """Turns over one path are one statement; `myelin query request` finds it by the request's id.

    The chain has no such id. Of the upper layers either worker may serve a turn.
    """
    environment = {**os.environ, "XDG_DATA_HOME": str(tmp_path / "data")}
    rpc = net.plan.validators[0].rpc_url
    chat = [*CLI, "chat", "--rpc", rpc, "--models", net.plan.models, "--model", net.plan.model, "--tokens", "4"]
    told = subprocess.run(
        chat, input=b"Say one.\nSay two.\nSay three.\n\n", capture_output=True, env=environment, check=True, timeout=120
    ).stdout.decode()
    requests = list(dict.fromkeys(re.findall(r"request 0x([0-9a-f]{64})", told)))
    assert len(requests) == 3, told

    def query(request: str) -> subprocess.CompletedProcess[bytes]:
        argv = [*CLI, "query", "request", f"0x{request}", "--rpc", rpc, "--json"]
        return subprocess.run(argv, capture_output=True, env=environment, check=False, timeout=60)

    poll_until(lambda: all(query(one).returncode == 0 for one in requests))
    found = [json.loads(query(one).stdout) for one in requests]
    statements = {one["request"]: one for one in found}
    paths = {tuple(stage["worker"] for stage in one["stages"]) for one in found}
    assert len(statements) == len(paths)
    assert sum(one["requests"] for one in statements.values()) == 3
    assert [one["part"]["request"] for one in found] == [f"0x{one}" for one in requests]
    assert sum(one["part"]["price"] for one in found) == sum(one["price"] for one in statements.values())
