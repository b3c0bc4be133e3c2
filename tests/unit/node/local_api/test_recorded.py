"""Recorded requests and answers: there are some for every method, they fit its schemas, and they are given again."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from typing import Any

import jsonschema
import pytest

from node.local_api.methods.all import METHODS
from node.local_api.wire import subscriptions
from node.local_api.wire.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_TRANSACTION,
    LIMIT_EXCEEDED,
    MEANINGS,
    NODE_UNREACHABLE,
    STATE_UNAVAILABLE,
)
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from tests.unit.node.local_api.vectors import PATH, record
from tests.unit.node.local_api.wire import serve_known_chain

VECTORS = json.loads(PATH.read_text("utf-8"))
EXCHANGES: list[dict[str, Any]] = VECTORS["exchanges"]
SUBSCRIPTIONS = {one["method"]: one["messages"] for one in VECTORS["subscriptions"]}
RPC_PAGE = (PATH.parents[1] / "rpc.md").read_text("utf-8")

ELSEWHERE = (INTERNAL_ERROR, LIMIT_EXCEEDED, NODE_UNREACHABLE)
"""What any method can end with, and a node that is well and has time does not."""


def name_of(exchange: dict[str, Any]) -> str:
    return "-".join((exchange["request"]["method"], *exchange["case"].split()))


def answers_of(method: str) -> list[dict[str, Any]]:
    return [one["response"] for one in EXCHANGES if one["request"]["method"] == method]


def results_of(method: str) -> list[Any]:
    return [one["result"] for one in answers_of(method) if "result" in one]


(DOCUMENT,) = results_of("rpc.discover")
DESCRIBED = {one["name"]: one for one in DOCUMENT["methods"]}
(LISTED,) = results_of("rpc_methods")
CALLED = sorted(set(LISTED["methods"]) - SUBSCRIPTION_METHODS)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What is answered now."""
    with serve_known_chain(tmp_path_factory.mktemp("known")) as wire:
        found: dict[str, Any] = record(wire)
    return found


@pytest.mark.parametrize("at", range(len(EXCHANGES)), ids=lambda at: name_of(EXCHANGES[at]))
def test_it_is_answered_as_recorded(given: dict[str, Any], at: int) -> None:
    assert given["exchanges"][at : at + 1] == [EXCHANGES[at]]


def test_nothing_more_is_asked_than_is_recorded(given: dict[str, Any]) -> None:
    assert {name: len(part) for name, part in given.items()} == {name: len(part) for name, part in VECTORS.items()}


@pytest.mark.parametrize("at", range(len(VECTORS["bodies"])), ids=lambda at: VECTORS["bodies"][at]["case"])
def test_texts_that_are_no_single_request_are_answered_as_recorded(given: dict[str, Any], at: int) -> None:
    assert given["bodies"][at] == VECTORS["bodies"][at]


@pytest.mark.parametrize("method", sorted(SUBSCRIPTIONS))
def test_subscriptions_tell_what_was_recorded(given: dict[str, Any], method: str) -> None:
    (found,) = [one["messages"] for one in given["subscriptions"] if one["method"] == method]
    assert found == SUBSCRIPTIONS[method]


def test_the_methods_are_those_that_it_lists_and_describes() -> None:
    assert sorted(METHODS) == CALLED == sorted(DESCRIBED)


@pytest.mark.parametrize("method", CALLED)
def test_every_method_has_an_answer_that_says_something_and_every_refusal_it_can_give(method: str) -> None:
    assert any(one not in (None, [], {}) for one in results_of(method)), "a recorded answer finds something"
    asked = defaultdict(set)
    for one in EXCHANGES:
        if one["request"]["method"] == method and "error" in one["response"]:
            asked[one["response"]["error"]["code"]].add(one["case"])
    takes = DESCRIBED[method]["params"]
    expected = {"one parameter too many", *(f"wrong {one['name']}" for one in takes)}
    expected |= {f"no {one['name']}" for one in takes if one["required"]}
    assert expected <= asked[INVALID_PARAMS]
    described = {int(one["$ref"].removeprefix("#/components/errors/")) for one in DESCRIBED[method]["errors"]}
    assert described == {*asked, *ELSEWHERE}
    assert described <= {one["code"] for one in DOCUMENT["components"]["errors"].values()}
    if STATE_UNAVAILABLE in described:
        assert asked[STATE_UNAVAILABLE] == {"pruned block", "block to come", "unknown block"}
    if INVALID_TRANSACTION in described:
        assert "DecodeError" in asked[INVALID_TRANSACTION]


@pytest.mark.parametrize("method", CALLED)
def test_every_recorded_result_is_as_the_document_says(method: str) -> None:
    schema = DESCRIBED[method]["result"]["schema"]
    results = list(results_of(method))
    assert results or method in SUBSCRIPTION_METHODS, "an answer of it is recorded"
    for one in results:
        jsonschema.validate(one, schema)


def test_parameters_that_were_answered_are_as_the_document_says() -> None:
    checked = set()
    for one in EXCHANGES:
        params = one["request"]["params"]
        if "result" not in one["response"] or isinstance(params, dict):
            continue
        checked.add(one["request"]["method"])
        for value, parameter in zip(params, DESCRIBED[one["request"]["method"]]["params"], strict=False):
            jsonschema.validate(value, parameter["schema"])
    assert checked == set(LISTED["methods"]) - SUBSCRIPTION_METHODS


def test_answers_are_jsonrpc_and_their_errors_are_documented() -> None:
    documented = {int(code): text for code, text in re.findall(r"^\| (-?\d{4,}) \| ([^|]*) \|", RPC_PAGE, re.MULTILINE)}
    assert documented == MEANINGS
    for one in EXCHANGES:
        answer = one["response"]
        assert (answer["jsonrpc"], answer["id"]) == ("2.0", one["request"]["id"])
        assert len(answer.keys() & {"result", "error"}) == 1
        if "error" in answer:
            assert answer["error"]["code"] in documented
            assert answer["error"]["message"]


def test_a_refused_transaction_is_refused_for_the_reason_that_is_named() -> None:
    refused = [
        one
        for one in EXCHANGES
        if one["response"].get("error", {}).get("code") == INVALID_TRANSACTION
        and one["request"]["method"] == "author_submitExtrinsic"
    ]
    assert len(refused) > 5
    assert [one["response"]["error"]["data"]["reason"] for one in refused] == [one["case"] for one in refused]


def test_every_subscription_is_recorded_with_what_it_tells_and_how_it_ends() -> None:
    assert {*SUBSCRIPTIONS, *(one.end for one in subscriptions.SUBSCRIPTIONS)} == SUBSCRIPTION_METHODS
    sent = {one["sent"]["method"] for messages in SUBSCRIPTIONS.values() for one in messages if "sent" in one}
    assert sent == SUBSCRIPTION_METHODS
    documented = dict(re.findall(r"^\| `(\w+)`[^|]*\| `(\w+)` \|", RPC_PAGE, re.MULTILINE))
    assert sorted(documented) == sorted(SUBSCRIPTIONS)
    for method, messages in SUBSCRIPTIONS.items():
        received = [one["received"] for one in messages if "received" in one]
        told = [one for one in received if "method" in one]
        assert told
        assert {one["method"] for one in told} == {documented[method]}
        assert INVALID_PARAMS in {one["error"]["code"] for one in received if "error" in one}


def test_what_is_left_out_is_not_there() -> None:
    page = RPC_PAGE[RPC_PAGE.index("sets is left out") : RPC_PAGE.index("Where a name is substrate's")]
    first_cells = re.findall(r"^\| (`[^|]*) \|", page, re.MULTILINE)
    names = {name for cell in first_cells for name in re.findall(r"`([\w*]+)`", cell)}
    assert len(names) > 30
    assert not names & {*METHODS, *SUBSCRIPTION_METHODS}
    families = {name.removesuffix("*") for name in names if name.endswith("*")}
    assert not [name for name in METHODS if name.startswith(tuple(families))]


def test_the_recording_is_where_the_specification_says() -> None:
    assert PATH.name == "rpc.json"
    assert "`vectors/rpc.json`" in RPC_PAGE
