"""JSON-RPC bodies gone wrong: valid requests of every method, changed as JSON and as bytes."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.local_api.methods.all import METHODS, NodeView
from node.local_api.wire.errors import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    INVALID_TRANSACTION,
    LIMIT_EXCEEDED,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    STATE_UNAVAILABLE,
    ApiError,
)
from node.web.rpc.jsonrpc import BODY_BYTES_MAX, answer_text
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types.chain import Transaction
from tests.fuzz.forge import Forger
from tests.fuzz.scene import HEIGHT, Scene
from tests.unit.node.local_api.calling import call

CODES = {
    PARSE_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    INVALID_PARAMS,
    LIMIT_EXCEEDED,
    STATE_UNAVAILABLE,
    INVALID_TRANSACTION,
}
MESSAGE_CHARACTERS_MAX = 500
ANSWER_BYTES_MAX = 16 << 20

_STRAYS: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    0.5,
    1e308,
    1 << 63,
    1 << 64,
    -(1 << 64),
    10**400,
    "",
    "0x",
    "0x0",
    "0X00",
    "0x" + "ff" * 32,
    "0x" + "00" * 32,
    "0x" + "ab" * 70_000,
    "0xzz",
    "\ud800",
    "\0",
    "٣",
    "5" * 60,
    [],
    {},
    [[]],
    {"": None},
    [None] * 300,
)
_RAW = (
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e999",
    b"-0",
    b"1" * 5_000,
    b'"\\ud800\\udc00"',
    b'{"a":1,"a":2}',
    b"\xff",
)


class RpcTarget:
    """Bodies through the JSON-RPC layer into the methods, over a real store and pool: every answer is JSON, bounded,
    and either a result or an error of a documented code."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        pool = TransactionPool(scene.store, Mempool(300, 200_000))
        now_ms = scene.store.get_head().time_ms + 500
        self._view = NodeView(scene.genesis.spec, scene.store, pool, lambda: now_ms)
        self._names = sorted(METHODS)
        prefix = scene.genesis.spec.ss58_prefix
        self._texts = ["0x" + one.hex() for one in scene.ids]
        self._texts += [encode_address(one, prefix) for one in scene.people]
        self._texts += ["0x" + key.hex() for key in list(scene.moments[HEIGHT].items)[:40]]
        self._fitting = scene.fitting or scene.fitting.update(self._learn()) or scene.fitting

    def _learn(self) -> dict[str, list[list[Any]]]:
        """Parameters that each method takes, found by asking."""
        some = [[], *([one] for one in (0, HEIGHT, *self._texts[:: max(len(self._texts) // 40, 1)]))]
        found: dict[str, list[list[Any]]] = {}
        for name in self._names:
            found[name] = []
            for params in some:
                try:
                    call(self._view, name, params)
                except ApiError:
                    continue
                found[name].append(params)
        return found

    def run(self, rng: random.Random) -> str:
        """Answer one body."""
        body = self._make_body(rng)
        answer = _finish(answer_text(body, self._dispatch))
        if answer is None:
            return "notification"
        assert len(answer) <= ANSWER_BYTES_MAX, f"an answer of {len(answer)} bytes"
        parsed = json.loads(answer, parse_constant=_refuse)
        for one in parsed if isinstance(parsed, list) else [parsed]:
            found = _judge(one)
        return found

    def finish(self) -> None:
        """The pool is as bounded as ever."""
        assert len(self._view.pool) <= 300

    async def _dispatch(self, calls: Sequence[tuple[str, Any]]) -> list[Any]:
        """As the node's side of the local socket does, without its last resort for bugs."""
        answers: list[Any] = []
        for name, params in calls:
            try:
                if name not in METHODS:
                    raise ApiError(METHOD_NOT_FOUND, f"there is no method {name!r:.80}")
                answers.append(call(self._view, name, params))
            except ApiError as error:
                answers.append(error)
        return answers

    def _make_body(self, rng: random.Random) -> bytes:
        request: Any = self._make_request(rng)
        if rng.random() < 0.1:
            request = [self._make_request(rng) for _ in range(rng.choice((0, 1, 2, 5, 101)))]
        for _ in range(rng.choice((0, 1, 1, 2))):
            request = _change(rng, request)
        body = json.dumps(request).encode()
        if rng.random() < 0.3:
            body = rng.choice(_SPOILS)(rng, body)
        return body

    def _make_request(self, rng: random.Random) -> dict[str, Any]:
        name = rng.choice(self._names)
        params: Any = [self._make_argument(rng, name) for _ in range(rng.choice((0, 1, 1, 1, 2)))]
        if self._fitting[name] and rng.random() < 0.6:
            params = list(rng.choice(self._fitting[name]))
        if rng.random() < 0.15:
            names = ("block", "account", "key", "prefix", "start", "extrinsic", "session", "model", "challenge")
            params = {rng.choice(names): one for one in params}
        return {"jsonrpc": "2.0", "id": rng.choice((1, "a", None, 0.5)), "method": name, "params": params}

    def _make_argument(self, rng: random.Random, name: str) -> Any:
        if name in ("author_submitExtrinsic", "payment_queryInfo", "author_submitAndWatchExtrinsic"):
            return "0x" + self._make_extrinsic(rng).hex()
        if name.startswith("chain_") and rng.random() < 0.7:
            return rng.choice(
                (0, 1, HEIGHT // 2, HEIGHT, HEIGHT + 1, (1 << 63) - 1, *self._scene.recording.outcomes[HEIGHT - 1])
            )
        return rng.choice(self._texts)

    def _make_extrinsic(self, rng: random.Random) -> bytes:
        if rng.random() < 0.3:
            return self._scene.spoilers[Transaction].spoil(rng)[:80_000]
        signer, call = rng.choice(self._scene.moments[HEIGHT].following)
        return encode(Forger(self._scene, rng).forge(self._scene.store, HEIGHT, signer, call, Counter()))


def _judge(response: Any) -> str:
    assert response["jsonrpc"] == "2.0"
    error = response.get("error")
    if error is None:
        assert "result" in response
        return "result"
    assert error["code"] in CODES, error
    assert len(error["message"]) <= MESSAGE_CHARACTERS_MAX, error
    return f"error {error['code']}"


def _finish(answering: Any) -> bytes | None:
    """Drive a coroutine that waits for nothing."""
    try:
        answering.send(None)
    except StopIteration as done:
        found: bytes | None = done.value
        return found
    raise AssertionError("answering a body waited for something")


def _refuse(name: str) -> Any:
    raise AssertionError(f"{name} in an answer")


def _change(rng: random.Random, value: Any) -> Any:
    """The JSON value with one place in it changed."""
    if rng.random() < 0.2 or not isinstance(value, list | dict) or not value:
        return rng.choice(_STRAYS)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        match rng.randrange(5):
            case 0:
                return value[:at] + value[at + 1 :]
            case 1:
                return [*value, value[at]]
            case _:
                return [*value[:at], _change(rng, value[at]), *value[at + 1 :]]
    key = rng.choice(list(value))
    match rng.randrange(6):
        case 0:
            return {name: one for name, one in value.items() if name != key}
        case 1:
            return {**value, rng.choice(("", "id", "method", "params", "x" * 200, "\ud800")): value[key]}
        case _:
            return {**value, key: _change(rng, value[key])}


def _nest(rng: random.Random, body: bytes) -> bytes:
    depth = rng.choice((10, 900, 100_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"params":[', b"]}")))
    return opening * depth + body + closing * rng.choice((depth, 0))


def _insert_raw(rng: random.Random, body: bytes) -> bytes:
    at = rng.randrange(len(body) + 1)
    return body[:at] + rng.choice(_RAW) + body[at:]


def _replace_raw(rng: random.Random, body: bytes) -> bytes:
    """A number or text somewhere in the body becomes something JSON writers do not write."""
    starts = [at for at in range(len(body)) if body[at : at + 1] in b":[,"]
    if not starts:
        return body
    at = rng.choice(starts) + 1
    end = next((one for one in range(at, len(body)) if body[one : one + 1] in b",]}"), len(body))
    return body[:at] + rng.choice(_RAW) + body[end:]


def _flip(rng: random.Random, body: bytes) -> bytes:
    if not body:
        return body
    at = rng.randrange(len(body))
    return body[:at] + bytes([body[at] ^ 1 << rng.randrange(8)]) + body[at + 1 :]


def _cut(rng: random.Random, body: bytes) -> bytes:
    return body[: rng.randrange(len(body) + 1)]


def _encode_otherwise(rng: random.Random, body: bytes) -> bytes:
    return body.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "utf-16-be")))


def _pad(rng: random.Random, body: bytes) -> bytes:
    count = rng.choice((1, 1_000, BODY_BYTES_MAX))
    return rng.choice((b" ", b"\n", b"\0")) * count + body


_SPOILS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _nest,
    _insert_raw,
    _replace_raw,
    _replace_raw,
    _flip,
    _flip,
    _flip,
    _cut,
    _encode_otherwise,
    _pad,
)
