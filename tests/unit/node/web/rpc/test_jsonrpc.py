"""JSON-RPC text to text: the specification's examples, batches, limits, and any bytes at all."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node.local_api.wire.errors import ApiError
from node.local_api.wire.frames import CALLS_MAX
from node.web.rpc.jsonrpc import BODY_BYTES_MAX, answer_text


async def dispatch(calls: Sequence[tuple[str, Any]]) -> list[Any]:
    answers: list[Any] = []
    for method, params in calls:
        try:
            answers.append(compute(method, params))
        except ApiError as error:
            answers.append(error)
    return answers


def compute(method: str, params: list[Any] | dict[str, Any]) -> Any:
    """subtract, as in the specification; fail refuses."""
    if method == "subtract":
        pair = [params.get("minuend"), params.get("subtrahend")] if isinstance(params, dict) else params
        if len(pair) != 2 or not all(isinstance(one, int) for one in pair):
            raise ApiError(-32602, "two integers")
        return pair[0] - pair[1]
    if method == "fail":
        raise ApiError(1010, "refused", {"reason": "Because"})
    raise ApiError(-32601, "no such method")


async def ask(text: str | bytes) -> Any:
    answer = await answer_text(text.encode() if isinstance(text, str) else text, dispatch)
    return None if answer is None else json.loads(answer)


def call(method: Any = "subtract", params: Any = (42, 23), **fields: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": method, "params": params, **fields}


@pytest.mark.parametrize(
    ("request_", "response"),
    [
        (call(id=1), {"jsonrpc": "2.0", "result": 19, "id": 1}),
        (call(params=[23, 42], id="x"), {"jsonrpc": "2.0", "result": -19, "id": "x"}),
        (call(params={"subtrahend": 23, "minuend": 42}, id=1.5), {"jsonrpc": "2.0", "result": 19, "id": 1.5}),
        (call(id=None), {"jsonrpc": "2.0", "result": 19, "id": None}),
        (call(), None),
        (call("fail"), None),
        (
            call("fail", id=2),
            {"jsonrpc": "2.0", "error": {"code": 1010, "message": "refused", "data": {"reason": "Because"}}, "id": 2},
        ),
        (
            call("foobar", id="1"),
            {"jsonrpc": "2.0", "error": {"code": -32601, "message": "no such method"}, "id": "1"},
        ),
    ],
)
async def test_calls_and_notifications(request_: Any, response: Any) -> None:
    assert await ask(json.dumps(request_)) == response


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('{"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz]', -32700),
        ("", -32700),
        (b"\xff\xfe", -32700),
        ("[" * 100_000, -32700),
        ('{"a":' * 100_000, -32700),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [NaN, 1], "id": 1}', -32700),
        ("9" * 5_000, -32700),
        ("[]", -32600),
        ("1", -32600),
        ("null", -32600),
        ('{"jsonrpc": "2.0", "method": 1, "params": "bar"}', -32600),
        ('{"jsonrpc": "1.0", "method": "subtract", "id": 1}', -32600),
        ('{"method": "subtract", "id": 1}', -32600),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [1, 2], "id": [1]}', -32600),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [1, 2], "id": true}', -32600),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": [1, 2], "id": 1e999}', -32600),
        ('{"jsonrpc": "2.0", "method": "subtract", "params": "bar", "id": 1}', -32602),
    ],
)
async def test_garbage_has_its_code(text: str | bytes, code: int) -> None:
    assert (await ask(text))["error"]["code"] == code


async def test_a_batch_answers_each_call_and_no_notification() -> None:
    batch = [call(id=1), call(), 1, {"foo": "boo"}, call("fail", id="9")]
    answers = await ask(json.dumps(batch))
    assert [one.get("result", one.get("error", {}).get("code")) for one in answers] == [19, -32600, -32600, 1010]
    assert await ask(json.dumps([call(), call()])) is None


async def test_batches_and_bodies_are_bounded() -> None:
    assert len(await ask(json.dumps([call(id=1)] * CALLS_MAX))) == CALLS_MAX
    assert (await ask(json.dumps([call(id=1)] * (CALLS_MAX + 1))))["error"]["code"] == -32005
    assert (await ask(b" " * (BODY_BYTES_MAX + 1)))["error"]["code"] == -32005


def check_response(one: Any) -> None:
    """A response object of the specification."""
    assert one["jsonrpc"] == "2.0"
    assert {"result", "error"} & one.keys()
    assert not {"result", "error"} <= one.keys()
    assert one["id"] is None or isinstance(one["id"], str | int | float)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "1.0", None, 2]),
        "method": st.sampled_from(["subtract", "fail", "x"]) | JSON,
        "params": st.just([5, 3]) | st.lists(JSON, min_size=2, max_size=2) | JSON,
        "id": JSON,
    },
)


@given(text=st.binary(max_size=80) | (REQUESTS | st.lists(REQUESTS, max_size=5) | JSON).map(json.dumps))
@example(text='{"jsonrpc":"2.0","method":"\\ud800","params":[],"id":"\\ud800"}')
async def test_whatever_comes_gets_responses_of_the_specification(text: str | bytes) -> None:
    answer = await ask(text)
    for one in answer if isinstance(answer, list) else [answer]:
        if one is not None:
            check_response(one)


def test_infinity_is_what_the_id_case_is_about() -> None:
    assert math.isinf(json.loads("1e999"))
