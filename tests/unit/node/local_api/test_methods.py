"""Methods over a real store: what each answers, and the machine-readable reason of every refusal."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from consensus.runtime.balances import state as balances
from consensus.state.tree import StateProof, verify_proof
from node.local_api.methods.all import METHODS, NodeView
from node.local_api.methods.author import PENDING_MAX
from node.local_api.methods.params import PAGE_ITEMS_MAX
from node.local_api.wire.errors import ApiError
from node.local_api.wire.subscriptions import SUBSCRIPTION_METHODS
from proto_specs.codec import decode, encode
from proto_specs.ss58 import encode_address
from proto_specs.types.chain import compute_block_hash, compute_extrinsic_hash
from tests.unit.node.local_api.calling import call
from tests.unit.node.world import ALICE, BOB, MYL, World

ALICE_ADDRESS = encode_address(ALICE.account, 42)
UNKNOWN = "0x" + "ab" * 32
SPECS = Path(__file__).parents[4] / "proto_specs"


class Api:
    """Calls methods and makes sure that every answer is JSON."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.now_ms = world.head.time_ms

    def call(self, name: str, *params: Any) -> Any:
        view = NodeView(self.world.genesis.spec, self.world.store, self.world.pool, lambda: self.now_ms)
        result = call(view, name, list(params))
        return json.loads(json.dumps(result, allow_nan=False))


@pytest.fixture
def api(world: World) -> Api:
    return Api(world)


def show(data: bytes) -> str:
    return f"0x{data.hex()}"


def test_the_table_is_the_documented_one(api: Api) -> None:
    page = (SPECS / "rpc.md").read_text("utf-8")
    documented = re.findall(r"^\| `([\w.]+)` ", page[: page.index("## Subscriptions")], re.MULTILINE)
    assert sorted(METHODS) == sorted(documented)
    assert api.call("rpc_methods") == {"methods": sorted({*METHODS, *SUBSCRIPTION_METHODS})}


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_refuses_too_many_parameters(api: Api, name: str) -> None:
    with pytest.raises(ApiError):
        api.call(name, *[None] * 9)


def test_who_and_what_it_is(api: Api) -> None:
    assert api.call("system_chain") == "myelin-dev"
    assert api.call("system_name") == "myelin"
    assert api.call("system_properties") == {
        "ss58Format": 42,
        "tokenDecimals": 9,
        "tokenSymbol": "MYL",
        "blockIntervalMs": 1000,
    }
    assert api.call("state_getRuntimeVersion") == {"specName": "myelin", "specVersion": 1}


def test_health_turns_bad_when_blocks_stop_and_says_so(api: Api, world: World) -> None:
    world.add_block()
    api.now_ms = world.head.time_ms + 10_000
    assert api.call("system_health") == {
        "height": 1,
        "timeMs": world.head.time_ms,
        "ageMs": 10_000,
        "pending": 0,
        "isHealthy": True,
        "problem": None,
    }
    api.now_ms += 2_000
    assert api.call("system_health")["problem"] == "no block for 12 s"
    assert not api.call("system_health")["isHealthy"]


def test_health_turns_bad_when_this_machines_clock_is_behind_the_chain(api: Api, world: World) -> None:
    world.add_block()
    api.now_ms = world.head.time_ms - 5_000
    assert api.call("system_health")["isHealthy"], "clocks differ, and a proposer's may be the one ahead"
    api.now_ms = world.head.time_ms - 3_600_000
    found = api.call("system_health")
    assert (found["isHealthy"], found["ageMs"]) == (False, 0)
    assert found["problem"] == "the chain's time is 3600 s ahead of this machine's clock: set the clock (NTP does it)"


def test_subscriptions_are_listed(api: Api) -> None:
    """Else whoever looks for one finds only how to poll."""
    assert set(api.call("rpc_methods")["methods"]) >= SUBSCRIPTION_METHODS
    listed = api.call("rpc.discover")["x-subscriptions"]
    assert {one["begin"] for one in listed} | {one["end"] for one in listed} == SUBSCRIPTION_METHODS


def test_blocks_by_height_and_hash_and_the_last_one_by_default(api: Api, world: World) -> None:
    for nonce in range(2):
        world.add_block([world.transfer(nonce)])
    first, second = (world.store.get_block(height) for height in (1, 2))
    assert first is not None
    assert second is not None
    first_hash, second_hash = (show(compute_block_hash(one.header)) for one in (first, second))
    for name in ("chain_getHeader", "chain_getBlock"):
        assert api.call(name, 1)["hash"] == api.call(name, first_hash)["hash"] == first_hash
        assert api.call(name)["hash"] == api.call(name, 2)["hash"] == second_hash
        assert api.call(name, 3) is None
        assert api.call(name, UNKNOWN) is None
    assert [api.call("chain_getBlockHash", height) for height in range(4)] == [
        show(world.genesis.hash),
        first_hash,
        second_hash,
        None,
    ]
    assert api.call("chain_getFinalizedHead") == api.call("chain_getBlockHash") == second_hash
    assert api.call("chain_getHeader", 0) == {"height": 0, "hash": show(world.genesis.hash)}
    assert api.call("chain_getHeader", show(world.genesis.hash))["height"] == 0
    block = api.call("chain_getBlock", 2)
    assert block["block"]["header"]["height"] == 2
    assert block["block"]["transactions"][0]["body"]["call"]["type"] == "Transfer"
    assert block["commit"]["block_hash"] == second_hash
    assert block["block"]["last_commit"]["block_hash"] == first_hash


def test_receipts_name_events_and_errors(api: Api, world: World) -> None:
    world.add_block([world.transfer(0), world.transfer(1, amount=10**18)])
    found = api.call("chain_getReceipts", 1)
    assert found == api.call("chain_getReceipts")
    good, bad = found["receipts"]
    assert good["error"] is None
    assert good["events"] == [
        {"type": "Transferred", "source": ALICE_ADDRESS, "dest": encode_address(BOB.account, 42), "amount": MYL}
    ]
    assert bad["error"] == {"module": 2, "error": "InsufficientBalance", "item": None}
    assert [one["type"] for one in bad["events"]] == ["ExtrinsicFailed"]
    assert found["events"]["finalize"][-1]["type"] == "FeesBurned"
    assert api.call("chain_getReceipts", 2) is None


def test_state_by_key_and_by_pages(api: Api, world: World) -> None:
    key = balances.accounts.key(ALICE.account)
    value = world.store.get(key)
    assert value is not None
    assert api.call("state_getStorage", show(key)) == show(value)
    assert api.call("state_getStorage", "0x00") is None
    everything, start = [], None
    while page := api.call("state_getPairs", "0x", start):
        assert len(page) <= PAGE_ITEMS_MAX
        everything += page
        start = page[-1][0]
    assert everything == [[show(key), show(value)] for key, value in world.dump().items()]
    prefix = show(b"balances.account:")
    assert all(one[0].startswith(prefix) for one in api.call("state_getPairs", prefix))


def test_a_read_proof_is_checked_offline(api: Api, world: World) -> None:
    world.add_block([world.transfer(0)])
    for key in (balances.accounts.key(ALICE.account), b"balances.account:nobody"):
        found = api.call("state_getReadProof", show(key))
        root, proof = bytes.fromhex(found["stateRoot"][2:]), bytes.fromhex(found["proof"][2:])
        value = None if found["value"] is None else bytes.fromhex(found["value"][2:])
        assert (root, found["height"]) == (world.head.state_root, 1)
        assert verify_proof(root, key, value, decode(StateProof, proof))


def test_a_submitted_transaction_is_pending_then_finalized(api: Api, world: World) -> None:
    one = world.transfer(0)
    extrinsic = show(compute_extrinsic_hash(one))
    assert api.call("author_extrinsicStatus", extrinsic) is None
    assert api.call("author_submitExtrinsic", show(encode(one))) == extrinsic
    assert api.call("author_extrinsicStatus", extrinsic) == {"status": "pending"}
    assert api.call("author_pendingExtrinsics") == [show(encode(one))]
    assert api.call("system_accountNextIndex", ALICE_ADDRESS) == 1
    world.add_block(world.pool.select())
    status = api.call("author_extrinsicStatus", extrinsic)
    assert (status["status"], status["height"], status["index"]) == ("finalized", 1, 0)
    assert status["receipt"]["extrinsic"] == extrinsic
    assert status["receipt"] == api.call("chain_getReceipts", 1)["receipts"][0]
    assert api.call("author_pendingExtrinsics") == []


def test_finalized_is_said_once_every_other_answer_has_the_block(api: Api, world: World) -> None:
    """A block is on disk before the pool has followed it: an answer from another thread may fall in between."""
    one = world.transfer(0)
    extrinsic = api.call("author_submitExtrinsic", show(encode(one)))
    done = world.finalize(world.build(world.pool.select()))
    world.store.commit_block(done)
    assert world.store.find_extrinsic(compute_extrinsic_hash(one)) is not None
    assert api.call("author_extrinsicStatus", extrinsic) == {"status": "pending"}
    assert api.call("author_pendingExtrinsics") == [show(encode(one))]
    world.pool.advance(done)
    assert api.call("author_extrinsicStatus", extrinsic)["status"] == "finalized"
    assert api.call("author_pendingExtrinsics") == []


def test_the_fee_that_is_queried_is_the_fee_that_is_paid(api: Api, world: World) -> None:
    one = world.transfer(0, tip=3)
    info = api.call("payment_queryInfo", show(encode(one)))
    receipt = world.add_block([one]).executed.receipts[0]
    assert (info["fee"], info["tip"], info["weight"]) == (receipt.fee, receipt.tip, receipt.weight)
    assert info["bytes"] == len(encode(one))


def test_pending_transactions_are_bounded(api: Api, world: World) -> None:
    for nonce in range(PENDING_MAX + 5):
        world.pool.submit(world.transfer(nonce))
    assert len(api.call("author_pendingExtrinsics")) == PENDING_MAX


def test_accounts_and_validators(api: Api) -> None:
    account = api.call("system_account", ALICE_ADDRESS)
    assert account == {"nonce": 0, "free": 900_000 * MYL, "reserved": 100_000 * MYL}
    assert api.call("system_account", UNKNOWN) == {"nonce": 0, "free": 0, "reserved": 0}
    assert api.call("staking_validators") == [
        {"key": show(ALICE.consensus_key.public_key), "operator": ALICE_ADDRESS, "power": 100_000 * MYL}
    ]


@pytest.mark.parametrize(
    ("name", "params", "empty"),
    [
        ("inference_models", (), []),
        ("inference_model", (UNKNOWN,), None),
        ("inference_workers", (UNKNOWN,), []),
        ("inference_worker", (UNKNOWN,), None),
        ("inference_verifiers", (UNKNOWN,), []),
        ("inference_session", (UNKNOWN,), None),
        ("inference_sessions", (ALICE_ADDRESS,), []),
        ("inference_requests", (UNKNOWN,), []),
        ("inference_request", (UNKNOWN,), None),
        ("inference_challenge", (UNKNOWN,), None),
        ("inference_challenges", (ALICE_ADDRESS,), []),
        ("inference_deposit", (UNKNOWN,), None),
        ("inference_conduct", (ALICE_ADDRESS,), {"jailed_until": 0, "strikes": 0, "terms": 0, "served": 0}),
        (
            "inference_standing",
            (ALICE_ADDRESS,),
            dict.fromkeys(("silences", "seats", "points", "misses", "carried", "epoch", "charged_permille"), 0),
        ),
    ],
)
def test_of_what_is_not_there_nothing_is_said(api: Api, name: str, params: tuple[str, ...], empty: Any) -> None:
    assert api.call(name, *params) == empty


def test_parameters_of_inference_are_those_of_the_spec(api: Api, world: World) -> None:
    expected = world.genesis.spec.params.inference
    assert api.call("inference_params")["commit_blocks"] == expected.commit_blocks
