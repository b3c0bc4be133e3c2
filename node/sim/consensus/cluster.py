"""The nodes of a simulation, their faults, and the delivery of their messages."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from functools import partial
from typing import Any

from genesis.builder import Genesis
from genesis.dev import DevIdentity, get_dev_identity
from node.p2p.acceptance import Acceptance
from node.signer.signer import HistoryFile, Signer
from node.sim.consensus.byzantine import Behaviour, CarelessSigner
from node.sim.consensus.checks import Checks
from node.sim.consensus.disk import Crashed
from node.sim.consensus.network import REQUEST_TIMEOUT_MS, SimNetwork
from node.sim.consensus.node import SimNode
from node.sim.consensus.plan import JUMP_MS_MAX, Plan
from node.sim.consensus.schedule import FaultSchedule
from node.store.chain_store import FinalizedBlock
from proto_specs.ed25519 import SigningKey
from proto_specs.hashing import Tag
from proto_specs.types.calls import Bond, Call, RegisterValidator, RetireValidator, Transfer
from proto_specs.types.chain import TransactionBody, sign_transaction
from proto_specs.types.common import NMYL_PER_MYL

WRITES_TO_CRASH_MAX = 12
DOWN_MS_MAX = 3_000
TRANSFER_EVERY_MS = 300
REPEAT_MS = 700
JOINER_STAKE = 100_000 * NMYL_PER_MYL
PAYERS = tuple(get_dev_identity(name) for name in ("eve", "ferdie", "client"))


class Cluster:
    """A simulation's nodes. `start` switches them on and schedules the plan's faults."""

    request_timeout_ms = REQUEST_TIMEOUT_MS

    def __init__(self, plan: Plan, genesis: Genesis, identities: tuple[DevIdentity, ...]) -> None:
        self.plan = plan
        self.dice = random.Random(f"cluster {plan.seed}")
        self.schedule = FaultSchedule()
        self.network = SimNetwork(plan, self.schedule, random.Random(f"network {plan.seed}"))
        self.checks = Checks()
        self.start_ms = genesis.spec.genesis_time_ms + 1_000
        self.counts: Counter[str] = Counter()
        self.nodes: dict[str, SimNode] = {}
        self._is_healed = False
        self._nonces: Counter[str] = Counter()
        self.identities = identities
        for place, identity in enumerate(identities):
            behaviour = plan.byzantine[place] if place < len(plan.byzantine) else None
            skew_ms = self.dice.randint(-plan.skew_ms_max, plan.skew_ms_max)
            self.nodes[identity.name] = SimNode(self, identity, genesis, skew_ms, behaviour)

    @property
    def honest(self) -> list[SimNode]:
        """The nodes that keep to the protocol."""
        return [node for node in self.nodes.values() if node.liar is None]

    def make_signer(self, file: HistoryFile, key: SigningKey, genesis: bytes, *, is_honest: bool = True) -> Signer:
        """A signer on a node's history."""
        return (Signer if is_honest else CarelessSigner)(file, key, genesis)

    def start(self) -> None:
        """Switch the nodes on, and schedule the faults."""
        for node in self.nodes.values():
            self.schedule.after(self.dice.randrange(200), partial(self._start, node))
        names, plan, dice = list(self.nodes), self.plan, self.dice
        for _ in range(plan.crashes):
            self.schedule.after(dice.randrange(plan.fault_ms), partial(self._arm, self.nodes[dice.choice(names)]))
        for _ in range(plan.partitions):
            begin = dice.randrange(plan.fault_ms)
            groups = {name: dice.randrange(2) for name in names}
            self.schedule.after(begin, partial(self._part, groups))
            self.schedule.after(begin + dice.randrange(plan.fault_ms), self.network.join)
        for node in self.nodes.values():
            if node.liar is not None and node.liar.behaviour is Behaviour.AMNESIA:
                self.schedule.after(dice.randrange(plan.fault_ms), partial(self._forget, node))
        clocks = random.Random(f"jumps {plan.seed}")
        for _ in range(plan.clock_jumps):
            node, jump_ms = self.nodes[clocks.choice(names)], clocks.randint(-JUMP_MS_MAX, JUMP_MS_MAX)
            self.schedule.after(clocks.randrange(plan.fault_ms), partial(self._jump, node, jump_ms))
        self.schedule.after(plan.fault_ms, self._heal)
        self.schedule.after(TRANSFER_EVERY_MS, self._transfer)
        if plan.has_joiner:
            joiner = self.identities[plan.validators]
            self.schedule.after(dice.randrange(plan.fault_ms), partial(self._repeat, joiner, _make_joining(joiner)))
        if plan.has_leaver:
            leaver = self.identities[plan.validators - 1]
            self.schedule.after(plan.fault_ms, partial(self._repeat, leaver, (RetireValidator(),)))

    def deliver(self, source: str, target: str, message: Any) -> None:
        """Deliver a published message."""
        node = self.nodes[target]
        if node.world is None:
            return

        def receive() -> None:
            if node.replica.receive(source, message) is Acceptance.REJECT:
                self.checks.note_blame(node, self.nodes[source], f"sent a {type(message).__name__} that is rejected")

        node.world.call(receive)

    def crash(self, node: SimNode) -> None:
        """Stop a node whose disk stopped at a write; it starts again after a while."""
        self.counts["crashes"] += 1
        node.stop()
        self.schedule.after(1 + self.dice.randrange(DOWN_MS_MAX), partial(self._start, node))

    def note_finalized(self, node: SimNode, done: FinalizedBlock) -> None:
        """Check and count a block that a node has finalized."""
        self.counts["blocks"] += 1
        self.counts["evidence"] += len(done.block.evidence)
        self.counts["transfers"] += len(done.block.transactions)
        self.checks.note_finalized(node, done)

    def has_reached(self, height: int) -> bool:
        """Whether every honest node has this height, after healing."""
        return self._is_healed and all(node.is_up and node.store.get_head().height >= height for node in self.honest)

    def count_changes(self) -> int:
        """The number of changes of the validator set, in the first honest node's chain."""
        store = self.honest[0].store
        headers = [store.get_header(height) for height in range(1, store.get_head().height + 1)]
        sets = [header.validators_hash for header in headers if header is not None]
        return sum(one != other for one, other in itertools.pairwise(sets))

    def _start(self, node: SimNode) -> None:
        if not node.is_up:
            try:
                node.start()
            except Crashed:
                self.crash(node)
            except Exception as error:  # any exception that keeps a node from starting is a finding
                self.checks.fail(f"{node.name} does not start: {type(error).__name__}: {error}")

    def _arm(self, node: SimNode) -> None:
        """Make a node crash at one of its next writes."""
        if not self._is_healed:
            node.disk.crash_in = 1 + self.dice.randrange(WRITES_TO_CRASH_MAX)

    def _jump(self, node: SimNode, jump_ms: int) -> None:
        if not self._is_healed:
            self.counts["clock jumps"] += 1
            node.jump_ms = jump_ms

    def _part(self, groups: dict[str, int]) -> None:
        if not self._is_healed:
            self.network.part(groups)

    def _forget(self, node: SimNode) -> None:
        if node.is_up:
            self.counts["amnesia"] += 1
            node.stop()
            node.forget()
            self._start(node)

    def _heal(self) -> None:
        self._is_healed = True
        self.network.heal()
        for node in self.nodes.values():
            node.disk.crash_in = None
            node.jump_ms = 0

    def _transfer(self) -> None:
        """Submit a user's payment to every running node."""
        self.schedule.after(TRANSFER_EVERY_MS, self._transfer)
        payer, payee = self.dice.sample(PAYERS, 2)
        self._submit(payer, self._nonces[payer.name], Transfer(payee.account, 1_000_000))
        self._nonces[payer.name] += 1

    def _repeat(self, who: DevIdentity, calls: tuple[Call, ...]) -> None:
        """Submit an account's calls again and again, until they are in a block."""
        self.schedule.after(REPEAT_MS, partial(self._repeat, who, calls))
        for nonce, call in enumerate(calls):
            self._submit(who, nonce, call)

    def _submit(self, who: DevIdentity, nonce: int, call: Call) -> None:
        genesis = next(iter(self.nodes.values())).genesis.hash
        body = TransactionBody(who.account, nonce, call, 0, 0, 0)
        transaction = sign_transaction(body, genesis, genesis, who.account_key)
        for node in self.nodes.values():
            if node.world is not None:
                node.world.call(partial(node.submit, transaction))


def _make_joining(who: DevIdentity) -> tuple[Call, ...]:
    """Bond as much stake as the other validators have, and stand for election."""
    proof = who.consensus_key.sign(Tag.KEY_PROOF_SIGN, who.account)
    return Bond(JOINER_STAKE), RegisterValidator(who.consensus_key.public_key, proof)
