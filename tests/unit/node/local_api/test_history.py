"""The past of a subject by pages, of a database whose bodies are pruned, whose index was off, or that has none."""

from __future__ import annotations

from typing import Any

import pytest

from node.local_api.methods import history
from node.local_api.methods.all import NodeView
from node.local_api.wire.errors import STATE_UNAVAILABLE, ApiError
from node.store.columns import Column
from node.store.history import prune
from node.store.retention import BODY_BLOCKS_MIN, Retention
from proto_specs.ss58 import encode_address
from tests.unit.node.local_api.calling import call
from tests.unit.node.world import ALICE, BOB, World

ALICE_ADDRESS, BOB_ADDRESS = (encode_address(one.account, 42) for one in (ALICE, BOB))


def ask(world: World, *params: Any) -> dict[str, Any]:
    view = NodeView(world.genesis.spec, world.store, world.pool, lambda: 0)
    found: dict[str, Any] = call(view, "history_events", list(params))
    return found


def grow(world: World, first: int, count: int) -> None:
    for nonce in range(first, first + count):
        world.add_block([world.transfer(nonce)])


@pytest.fixture
def indexed(world: World) -> World:
    world.reopen(Retention(is_indexed=True))
    grow(world, 0, 7)
    return world


def test_pages_hold_everything_once_and_newest_first(indexed: World, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ask(indexed, BOB_ADDRESS)["items"]
    assert [one["height"] for one in whole] == [7, 6, 5, 4, 3, 2, 1]
    assert {one["event"]["type"] for one in whole} == {"Transferred"}
    monkeypatch.setattr(history, "BLOCKS_MAX", 3)
    pages, before = [], None
    while True:
        page = ask(indexed, BOB_ADDRESS, None, before)
        pages.append(page["items"])
        before = page["next"]
        if before is None:
            break
    assert [len(one) for one in pages] == [3, 3, 1]
    assert [one for page in pages for one in page] == whole


def test_what_an_account_signed_and_what_names_it(indexed: World) -> None:
    found = ask(indexed, ALICE_ADDRESS)["items"]
    assert {one["height"] for one in found} == set(range(1, 8))
    signed = ask(indexed, ALICE_ADDRESS, ["Transaction"])["items"]
    assert [one["transaction"]["body"]["nonce"] for one in signed] == [6, 5, 4, 3, 2, 1, 0]
    assert ask(indexed, "Transferred", None, 3)["items"] == ask(indexed, BOB_ADDRESS, None, 3)["items"]


def test_without_an_index_it_says_how_to_have_one(world: World) -> None:
    grow(world, 0, 1)
    with pytest.raises(ApiError, match="--index") as refused:
        ask(world, BOB_ADDRESS)
    assert refused.value.code == STATE_UNAVAILABLE


def test_blocks_that_were_not_indexed_end_the_index(indexed: World) -> None:
    indexed.reopen(Retention(is_indexed=False))
    assert ask(indexed, BOB_ADDRESS)["oldest"] == 1, "nothing is missing yet"
    grow(indexed, 7, 1)
    with pytest.raises(ApiError, match="--index"):
        ask(indexed, BOB_ADDRESS)
    indexed.reopen(Retention(is_indexed=True))
    grow(indexed, 8, 2)
    found = ask(indexed, BOB_ADDRESS)
    assert found["oldest"] == 9
    assert [one["height"] for one in found["items"]] == [10, 9]


def test_a_pruned_body_takes_its_rows_along(indexed: World) -> None:
    rows = indexed.store.count_rows(Column.SUBJECT)
    pruned = prune(indexed.store.index._db, BODY_BLOCKS_MIN + 3, Retention(None, BODY_BLOCKS_MIN), 0, 0, 1)  # noqa: SLF001
    gone = [key for key, value in pruned.rows if key[:1] == Column.SUBJECT.value and value is None]
    assert pruned.oldest_body == 3
    assert rows / 7 * 2 == len(gone)


@pytest.mark.parametrize("wrong", ["Transfered", "5Grw", "0x00", 7, None])
def test_a_subject_that_is_none(indexed: World, wrong: Any) -> None:
    with pytest.raises(ApiError, match="subject"):
        ask(indexed, wrong)
