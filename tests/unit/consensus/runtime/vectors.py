"""Builds the golden vectors of state tree, extrinsics, blocks and runtime; `python -m` this module writes the files.

Writing them again is a change of the protocol: the diff of the JSON is what other implementations have to follow.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import proto_specs
from benchmarks.manifests import build_manifest
from consensus.runtime.arithmetic import compute_shares
from consensus.runtime.fees import compute_fee, query_fee
from consensus.runtime.inference import audits, draws
from consensus.runtime.inference.payments import compute_pool_bonus
from consensus.runtime.inference.settlement import compute_challenge_ppm
from consensus.runtime.inference.state import Worker
from consensus.runtime.receipts import compute_receipts_root
from consensus.runtime.staking.emission import compute_emission, compute_rewards
from consensus.runtime.staking.slashing import compute_slash_fraction
from consensus.runtime.system.calls import compute_weight_price
from consensus.state.tree import EMPTY_ROOT, prove, update
from genesis.builder import build_genesis
from genesis.dev import build_dev_params, build_dev_spec, get_dev_identity
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.chain import (
    Block,
    Commit,
    CommitSignature,
    Header,
    Transaction,
    TransactionBody,
    Validator,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_extrinsic_hash,
    compute_signing_bytes,
    compute_validators_hash,
    sign_transaction,
)
from proto_specs.types.manifest import compute_model_id
from proto_specs.types.promise_calls import JoinSettlement, PromisedByOrder, ReportDoublePromise
from proto_specs.types.request import compute_session_id, compute_stage_price
from proto_specs.types.verdict import compute_challenge_id, compute_fingerprint_seed
from tests.property.proto_specs.shapes import make_smallest
from tests.unit.consensus.runtime.chain import Chain, compute_beacon
from tests.unit.consensus.runtime.inference.inference_world import LAYERS, World

VECTORS = Path(proto_specs.__file__).parent / "vectors"


def build_state_tree() -> dict[str, Any]:
    """Blocks of changes, the root after each, and proofs from the last."""
    blocks: list[dict[bytes, bytes | None]] = [
        {b"a": b"1"},
        {b"b": b"2", b"c": b""},
        {b"key%d" % number: b"value%d" % number for number in range(40)},
        {b"a": None, b"key7": b"changed", b"absent": None},
        {b"key%d" % number: None for number in range(1, 40)},
        {b"b": None, b"c": None, b"key0": None},
    ]
    pages: dict[bytes, bytes] = {}
    root, roots, proofs = EMPTY_ROOT, [], []
    for number, changes in enumerate(blocks):
        result = update(pages.get, root, sorted(changes.items()))
        root = result.root
        pages.update({path: page for path, page in result.node_writes.items() if page is not None})
        for path, page in result.node_writes.items():
            if page is None:
                pages.pop(path, None)
        roots.append(root.hex())
        for key, value in ((b"b", b"2"), (b"key3", b"value3"), (b"nothing", None), (b"empty6", None)):
            is_there = 1 <= number <= 4 if key == b"b" else number in (2, 3) and value is not None
            expected = value if is_there else None
            proof = prove(pages.get, key)
            proofs.append(
                {
                    "block": number,
                    "key": key.hex(),
                    "value": None if expected is None else expected.hex(),
                    "proof": encode(proof).hex(),
                }
            )
    listed = [
        [[key.hex(), None if value is None else value.hex()] for key, value in sorted(changes.items())]
        for changes in blocks
    ]
    text = "state.md; keys, values, roots and encoded Proof records in hex; a value of null deletes or is absent"
    return {"format": text, "blocks": listed, "roots": roots, "proofs": proofs}


def build_calls() -> list[calls.Call]:
    """One of every call."""
    world = World()
    order, settled = world.order(), world.settle()
    commit, reveal = world.verdict(bytes(32), world.verifiers[0], calls.Outcome.FAIL)
    bob = world.workers[0]
    key = bob.consensus_key
    return [
        calls.Remark(b"hello"),
        calls.Transfer(bytes(range(32)), 1_234_567),
        calls.Bond(10**12),
        calls.Unbond(10**9),
        calls.WithdrawUnbonded(),
        calls.RegisterValidator(key.public_key, key.sign(Tag.KEY_PROOF_SIGN, bob.account)),
        calls.RegisterModel(encode(build_manifest(LAYERS))),
        world.register_worker(bob, 0, 2),
        calls.UpdateWorker(bob.worker_key.public_key, "peer", ("/ip4/127.0.0.1/tcp/4001",), 500, 1_000),
        calls.MoveWorker(bob.worker_key.public_key, 4, 6),
        calls.RetireWorker(bob.worker_key.public_key),
        calls.LeaveWorker(bob.worker_key.public_key),
        calls.ReportAbsent(bob.worker_key.public_key),
        calls.RegisterVerifier(world.model),
        calls.UnregisterVerifier(world.model),
        calls.OpenSession(world.model, world.session_key.public_key, 1_000, 10**10, 3),
        calls.TopUpSession(order.order.session, 10**9),
        calls.CloseSession(order.order.session),
        settled,
        JoinSettlement(settled.order, settled.voucher, settled.stage_roots[:1]),
        ReportDoublePromise(settled.order, settled.voucher, PromisedByOrder(world.order(1))),
        make_smallest(calls.SettleStatement),
        commit,
        reveal,
        calls.TransferAll(bytes(range(32)), True),
        calls.Delegate(bob.account, 10**10),
        calls.Undelegate(bob.account, 10**9),
        calls.Redelegate(bob.account, bytes(range(32)), 10**9),
        calls.ClaimRewards(bob.account),
        calls.SetCommission(50),
        calls.Unjail(),
        calls.RetireValidator(),
        make_smallest(calls.ReportEquivocation),
        calls.ProposeParams((calls.ParamChange("system.byte_price", 11),)),
        calls.VoteParams(3, True),
        calls.BatchAll((calls.Remark(b"a"), calls.Transfer(bytes(range(32)), 1))),
        calls.BatchEach((calls.Remark(b"b"),)),
        calls.AsMulti(2, (bytes(range(32)), bytes(range(1, 33))), None, calls.Remark(b"of several")),
        calls.ApproveAsMulti(2, (bytes(range(32)), bytes(range(1, 33))), 7, bytes(32)),
        calls.CancelAsMulti(2, (bytes(range(32)), bytes(range(1, 33))), 7, bytes(32)),
    ]


def build_extrinsics() -> dict[str, Any]:
    """Every call in a signed transaction."""
    genesis, birth = bytes([1]) * 32, bytes([2]) * 32
    signer = get_dev_identity("bob")
    cases = []
    for nonce, call in enumerate(build_calls()):
        body = TransactionBody(signer.account, nonce, call, 10 * nonce, 5 * (nonce % 2), 64 * (nonce % 2))
        birth_hash = birth if body.period_blocks else genesis
        transaction = sign_transaction(body, genesis, birth_hash, signer.account_key)
        cases.append(
            {
                "call": type(call).__name__,
                "birth_hash": birth_hash.hex(),
                "signing_payload": compute_signing_bytes(body, genesis, birth_hash).hex(),
                "transaction": encode(transaction).hex(),
                "hash": compute_extrinsic_hash(transaction).hex(),
            }
        )
    text = "types/chain.py, types/calls.py; canonical bytes in hex; the signer is the dev account bob"
    return {"format": text, "genesis": genesis.hex(), "signer": signer.account.hex(), "extrinsics": cases}


def build_blocks() -> dict[str, Any]:
    """A short chain: a header's parts and hashes, block by block."""
    chain = Chain(build_dev_spec())
    bob = get_dev_identity("bob")
    pages = {path: page for path, page in chain.genesis.tree.node_writes.items() if page is not None}
    root, cases, commit = chain.genesis.state_root, [], None
    parent = chain.genesis.hash
    for height in range(1, 4):
        transactions = tuple(
            chain.sign(bob, calls.Transfer(bytes([index]) * 32, 10**7), nonce=2 * (height - 1) + index, tip=index)
            for index in range(2)
        )
        validators = chain.genesis.validators
        executed = chain.block(transactions)
        result = update(pages.get, root, executed.changes)
        root = result.root
        for path, page in result.node_writes.items():
            if page is None:
                pages.pop(path)
            else:
                pages[path] = page
        header = Header(
            height=height,
            parent_hash=parent,
            time_ms=chain.spec.genesis_time_ms + 1_000 * height,
            proposer=chain.proposer.consensus_key.public_key,
            vrf_proof=bytes([height]) * 80,
            validators_hash=compute_validators_hash(validators),
            last_commit_hash=compute_commit_hash(commit),
            body_root=compute_body_root((), transactions),
            state_root=root,
            receipts_root=compute_receipts_root(executed.receipts, executed.events),
        )
        block = Block(header, (), transactions, commit)
        cases.append(
            {
                "block": encode(block).hex(),
                "header": encode(header).hex(),
                "hash": compute_block_hash(header).hex(),
                "body_root": header.body_root.hex(),
                "receipts": [encode(one).hex() for one in executed.receipts],
                "events": encode(executed.events).hex(),
                "receipts_root": header.receipts_root.hex(),
                "state_root": root.hex(),
                "last_commit_hash": header.last_commit_hash.hex(),
            }
        )
        parent = compute_block_hash(header)
        signature = CommitSignature(chain.proposer.consensus_key.public_key, bytes([height]) * 64)
        commit = Commit(height, 0, parent, (signature,))
    return {
        "format": "types/chain.py; blocks of the development chain, canonical bytes in hex. VRF proofs and commits are "
        "made up, and the runtime saw the parent hashes and beacons of tests/unit/consensus/runtime/chain.py",
        "validators_hash": compute_validators_hash(chain.genesis.validators).hex(),
        "blocks": cases,
    }


def build_runtime() -> dict[str, Any]:
    """Genesis of the development chain, every integer formula, and a story of a failed request."""
    genesis = build_genesis(build_dev_spec())
    return {
        "format": "runtime.md, fees.md, inference_settlement.md; bytes in hex, amounts in nmyl",
        "genesis": {
            "spec": encode(genesis.spec).hex(),
            "hash": genesis.hash.hex(),
            "state_root": genesis.state_root.hex(),
            "items": [[key.hex(), value.hex()] for key, value in genesis.items],
        },
        "formulas": build_formulas(),
        "failed_request": build_story(),
    }


def build_formulas() -> dict[str, Any]:
    """Arguments and results of the formulas the pages define."""
    params = build_dev_params()
    prices = replace(params.system, fee_base=10_000, byte_price=100, weight_price_min=1_000, weight_price_max=1_000_000)
    members = [
        Validator(bytes([index]) * 32, bytes([index]) * 32, power) for index, power in enumerate((500, 300, 200))
    ]
    beacon, request = compute_beacon(1), bytes(range(32))
    worker = Worker(bytes(32), bytes(32), 0, 2, 0, 10**9, 10**6, 1, 0, "", (), 0, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0)
    sampled = replace(params.inference, base_challenge_ppm=10_000)
    seated = draws.compute_committee(beacon, compute_challenge_id(request, 1), members, 2)
    path = World().order().order.path
    return {
        "shares": [
            [total, weights, compute_shares(total, weights)] for total, weights in ((100, [1, 1, 1]), (7, [0, 5, 2]))
        ],
        "fee": [[200, 185, 1_000, compute_fee(prices, 1_000, 200, 185)]],
        "weight_price": [
            [price, used, compute_weight_price(prices, price, used)]
            for price, used in ((1_000, 0), (2_000, 800_000), (2_000, 400_001), (2_000, 100_000), (999_999, 800_000))
        ],
        "emission": [
            [epoch, compute_emission(params.staking, epoch, 0)] for epoch in (0, 999_999, 1_000_000, 2_000_000)
        ],
        "audits": {
            "numbers": [beacon.hex(), 7, audits.compute_numbers(beacon, 7, 8)],
            "id": [beacon.hex(), 3, request.hex(), audits.compute_audit_id(beacon, 3, request).hex()],
            "capacity": [10**9, 2, audits.compute_capacity(params.inference, worker)],
            "scores": [
                [score, 250, is_passed, audits.compute_score(score, 250, is_passed=is_passed)]
                for score, is_passed in ((0, True), (250, True), (999, True), (438, False), (1, False), (0, False))
            ],
        },
        "rewards": [[10_000, [500, 300, 200], [10, 5, 0], 10, compute_rewards(10_000, members, [10, 5, 0], 10)]],
        "slash_fraction": [[k, n, *compute_slash_fraction(k, n, 50)] for k, n in ((1, 100), (10, 100), (1, 4), (2, 4))],
        "stage_price": [[2, 500, 1_000, 40, 60, compute_stage_price(path[0], 40, 60)]],
        "challenge_ppm": [
            [10**9, 10**6, gross, compute_challenge_ppm(sampled, worker, gross)] for gross in (10**6, 10**7, 29 * 10**7)
        ],
        "draw": [
            [beacon.hex(), request.hex(), stage, ppm, 9, draws.compute_draw(beacon, request, stage, ppm, range(9))]
            for stage, ppm in ((0, 1_000_000), (1, 1_000_000), (0, 500_000), (1, 500_000), (2, 500_000))
        ],
        "challenge_id": compute_challenge_id(request, 1).hex(),
        "fingerprint_seed": compute_fingerprint_seed(beacon, compute_challenge_id(request, 1)).hex(),
        "session_id": compute_session_id(bytes(range(32)), 7).hex(),
        "committee": [[one.power for one in members], 2, [one.key.hex() for one in seated]],
        "pool_bonus": [
            [100, ppm, pool, compute_pool_bonus(100, ppm, pool)] for ppm, pool in ((10_000, 10**6), (10**6, 9))
        ],
    }


def build_story() -> dict[str, Any]:
    """Settle, draw, convict one stage, acquit the others: transactions in, state roots and receipts out."""
    world = World()
    chain = world.chain
    start = chain.height
    items = sorted(chain.state.items.items())
    result = update(lambda path: None, EMPTY_ROOT, items)
    blocks: list[dict[str, Any]] = []

    def add(transactions: list[Transaction]) -> list[Any]:
        context = chain.context()
        executed = chain.block(transactions)
        rebuilt = update(lambda path: None, EMPTY_ROOT, sorted(chain.state.items.items()))
        blocks.append(
            {
                "height": context.height,
                "time_ms": context.time_ms,
                "beacon": context.beacon.hex(),
                "parent_hash": context.parent_hash.hex(),
                "last_commit": encode(context.last_commit).hex(),
                "transactions": [encode(one).hex() for one in transactions],
                "state_root": rebuilt.root.hex(),
                "receipts_root": executed.receipts_root.hex(),
            }
        )
        return [event for receipt in executed.receipts for event in receipt.events] + list(executed.events.initialize)

    add([chain.sign(world.workers[0], world.settle())])
    add([])
    drawn = add([])
    for one, outcome in zip(drawn, (calls.Outcome.FAIL, calls.Outcome.PASS, calls.Outcome.PASS), strict=True):
        for call in world.verdict(one.challenge, world.verifiers[0], outcome):
            add([chain.sign(world.verifiers[0], call)])
    assert query_fee(chain.state, chain.sign(world.workers[0], calls.Remark(b""))).fee > 0
    return {
        "genesis": chain.genesis.hash.hex(),
        "proposer": chain.proposer.consensus_key.public_key.hex(),
        "model": compute_model_id(build_manifest(LAYERS)).hex(),
        "fingerprint_bytes": FINGERPRINT_BYTES,
        "start_height": start,
        "start_root": result.root.hex(),
        "start_items": [[key.hex(), value.hex()] for key, value in items],
        "blocks": blocks,
    }


BUILDERS = {
    "state_tree": build_state_tree,
    "extrinsics": build_extrinsics,
    "blocks": build_blocks,
    "runtime": build_runtime,
}


def main() -> None:
    """Write all files."""
    for name, build in BUILDERS.items():
        (VECTORS / f"{name}.json").write_text(json.dumps(build(), indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
