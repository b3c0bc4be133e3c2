"""The client: results, refusals with their data, and whatever else may answer at an address."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest
import trio
import trio.testing

from node.client.chain_view import ChainUnreachable
from node.client.rpc import RpcClient, open_rpc
from node.client.rpc_errors import RpcError, RpcUnreachable

Answer = Callable[[httpx.Request], httpx.Response]


def make_client(answer: Answer) -> RpcClient:
    return RpcClient("http://node", httpx.AsyncClient(transport=httpx.MockTransport(answer)))


async def test_a_result_is_returned() -> None:
    client = make_client(lambda request: httpx.Response(200, json={"jsonrpc": "2.0", "id": 1, "result": [1]}))
    assert await client.call("x") == [1]


async def test_a_null_result_is_none() -> None:
    assert await make_client(lambda request: httpx.Response(200, json={"id": 1, "result": None})).call("x") is None


async def test_a_refusal_keeps_code_text_and_data() -> None:
    error = {"code": 1010, "message": "StaleNonce: used", "data": {"reason": "StaleNonce", "expected": 4}}
    with pytest.raises(RpcError, match="StaleNonce: used") as refused:
        await make_client(lambda request: httpx.Response(200, json={"id": 1, "error": error})).call("x")
    assert (refused.value.code, refused.value.data) == (1010, {"reason": "StaleNonce", "expected": 4})


async def test_a_call_that_came_too_early_is_made_again_in_its_time(autojump_clock: trio.testing.MockClock) -> None:
    asked_s: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked_s.append(trio.current_time())
        early = {"code": -32005, "message": "slow down", "data": {"wait_ms": 250}}
        return httpx.Response(200, json={"id": 1, **({"error": early} if len(asked_s) < 3 else {"result": 7})})

    assert await make_client(answer).call("x") == 7
    assert [round(one - asked_s[0], 3) for one in asked_s] == [0, 0.25, 0.5]


@pytest.mark.parametrize(
    "data", [None, {}, {"wait_ms": "1"}, {"wait_ms": 1e9}, {"wait_ms": 10**9}, {"wait_ms": 20_000}]
)
async def test_it_does_not_wait_for_ever_and_not_for_nothing(
    autojump_clock: trio.testing.MockClock, data: object
) -> None:
    error = {"code": -32005, "message": "slow down", "data": data}
    began_s = trio.current_time()
    with pytest.raises(RpcError, match="slow down"):
        await make_client(lambda request: httpx.Response(200, json={"id": 1, "error": error})).call("x")
    assert trio.current_time() - began_s <= 30


@pytest.mark.parametrize(
    "answer",
    [
        lambda request: httpx.Response(200, text="hello"),
        lambda request: httpx.Response(200, json=[]),
        lambda request: httpx.Response(200, json=7),
        lambda request: httpx.Response(413, json={"error": "too large"}),
        lambda request: httpx.Response(200, json={"error": {"code": "x"}}),
        lambda request: httpx.Response(502, text=""),
    ],
)
async def test_something_else_that_answers_is_no_node(answer: Answer) -> None:
    with pytest.raises(RpcUnreachable, match="http://node"):
        await make_client(answer).call("x")


async def test_nobody_there_says_what_to_try() -> None:
    async with open_rpc("http://127.0.0.1:9") as client:
        with pytest.raises(ChainUnreachable, match=r"--rpc URL"):
            await client.call("x")


@pytest.mark.parametrize("url", ["nonsense", "ftp://x", "http://[::1", ""])
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    async with open_rpc(url) as client:
        with pytest.raises(RpcUnreachable):
            await client.call("x")
