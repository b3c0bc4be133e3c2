"""The chain that the recorded answers are about: money, stake, a vote, an account of several, requests of every state.

Everything in it is derived from names and heights, so its hashes are the same wherever and whenever it is made.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.manifests import build_manifest
from genesis.dev import DevIdentity, get_dev_identity
from node.store.chain_store import FinalizedBlock
from node.store.retention import Retention
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.calls import Outcome, ParamChange
from proto_specs.types.chain import Transaction, compute_extrinsic_hash
from proto_specs.types.manifest import compute_model_id
from proto_specs.types.multisig import MultisigOwners, compute_multisig_account
from proto_specs.types.request import compute_request_id, compute_session_id
from tests.unit.consensus.runtime.inference import inference_world
from tests.unit.consensus.runtime.inference.inference_world import DEPOSIT, LAYERS, PRICE, WORKER_NAMES
from tests.unit.node.world import ALICE, BOB, MYL, World, sign_call

CHARLIE, DAVE, CLIENT = map(get_dev_identity, ("charlie", "dave", "client"))
STATE_BLOCKS = 2
"""States kept behind the last: those of the first blocks are gone."""


class KnownChain(inference_world.World):
    """A node's store with the chain in it, and what is on the chain by name. Close `node.store` after it."""

    def __init__(self, path: Path) -> None:
        self.node = World(path, retention=Retention(state_blocks=STATE_BLOCKS, is_indexed=True))
        self.publish: Callable[[FinalizedBlock], None] = lambda _: None
        self.chain: Any = self.node  # orders are made of its genesis alone
        self.client = CLIENT
        self.session_key = get_dev_identity("session").account_key
        self.workers = [get_dev_identity(name) for name in WORKER_NAMES]
        self.verifiers = [ALICE]
        self.model = compute_model_id(build_manifest(LAYERS))
        self.session = compute_session_id(CLIENT.account, 1)
        self.request = compute_request_id(self.order(0).order)
        owners = tuple(sorted((BOB.account, CHARLIE.account, DAVE.account)))
        self.shared = compute_multisig_account(MultisigOwners(2, owners))
        self._nonces: Counter[bytes] = Counter()
        self.first = self.sign(ALICE, calls.Transfer(BOB.account, MYL), tip=5)
        self.challenges = self._make(tuple(one for one in owners if one != BOB.account))
        self.waiting = self.sign(ALICE, calls.Transfer(BOB.account, MYL))
        self.node.pool.submit(self.waiting)

    def get_next_nonce(self, who: DevIdentity) -> int:
        """That of the account's next transaction."""
        return self._nonces[who.account]

    def sign(self, who: DevIdentity, call: Any, tip: int = 0) -> Transaction:
        """Under the account's next nonce."""
        nonce = self.get_next_nonce(who)
        self._nonces[who.account] += 1
        return sign_call(self.node.genesis.hash, who, nonce, call, tip)

    def add_block(self, *given: Transaction | tuple[DevIdentity, Any]) -> FinalizedBlock:
        """A block of transactions, and of calls of which each succeeds."""
        made = [one if isinstance(one, Transaction) else self.sign(*one) for one in given]
        block = self.node.add_block(made)
        self.publish(block)
        receipts = {one.extrinsic: one for one in block.executed.receipts}
        for one, transaction in zip(given, made, strict=True):
            receipt = receipts[compute_extrinsic_hash(transaction)]
            assert isinstance(one, Transaction) or receipt.error is None, receipt.error
        return block

    def _make(self, others: tuple[bytes, ...]) -> list[bytes]:
        """Nine blocks. Returns the challenges that were drawn: the first is judged, the last waits for its verifier."""
        too_much = self.sign(ALICE, calls.Transfer(BOB.account, 10**18))
        self.add_block(self.first, too_much, (BOB, calls.Remark(b"hello")))
        self.add_block((CLIENT, calls.RegisterModel(encode(build_manifest(LAYERS)))))
        registrations = [
            (who, self.register_worker(who, 2 * index, 2 * index + 2)) for index, who in enumerate(self.workers)
        ]
        self.add_block(*registrations, (ALICE, calls.RegisterVerifier(self.model)))
        opening = calls.OpenSession(self.model, self.session_key.public_key, PRICE, DEPOSIT, 100)
        delegation = (BOB, calls.Delegate(ALICE.account, 50 * MYL))
        self.add_block(
            (CLIENT, opening), delegation, (BOB, calls.AsMulti(2, others, None, calls.Remark(b"of several")))
        )
        proposal = (ALICE, calls.ProposeParams((ParamChange("system.byte_price", 7),)))
        self.add_block((BOB, self.settle(0)), (BOB, calls.Undelegate(ALICE.account, 20 * MYL)), proposal)
        self.add_block()
        drawn = self.add_block()
        challenges = [
            one.challenge
            for one in (*drawn.executed.events.initialize, *drawn.executed.events.finalize)
            if hasattr(one, "challenge")
        ]
        commit, reveal = self.verdict(challenges[0], ALICE, Outcome.PASS)
        self.add_block((ALICE, commit))
        self.add_block((ALICE, reveal))
        return challenges
