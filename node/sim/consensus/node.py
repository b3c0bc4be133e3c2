"""A simulated node: its disk, and the replica that runs on it from each crash to the next."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from consensus.beacon import prove_beacon
from consensus.runtime.errors import InvalidTransaction
from genesis.builder import Genesis
from genesis.dev import DevIdentity
from node.chain.blocks import Proposer, build_block
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.p2p.acceptance import Acceptance
from node.replica.replica import Replica, ReplicaParts
from node.replica.wal import Wal, parse_wal
from node.replica.wal_records import decode_input
from node.replica.world import GossipMessage, Request, Response
from node.signatures.jobs import SignatureJob
from node.signer.signer import format_history
from node.sim.consensus.byzantine import Behaviour, Liar
from node.sim.consensus.disk import Crashed, SimBacking, SimDisk, SimHistory, SimLog
from node.sim.consensus.memo import is_digest_signed
from node.sim.consensus.plan import BLOCK_INTERVAL_MS, TIMEOUTS
from node.store.chain_store import ChainStore
from proto_specs.errors import ProtocolError
from proto_specs.types.chain import Proposal, Transaction

if TYPE_CHECKING:
    from node.sim.consensus.cluster import Cluster

T = TypeVar("T")


class SimNode:
    """A validator that can be switched off and on. `liar` is None on an honest node."""

    def __init__(
        self, cluster: Cluster, identity: DevIdentity, genesis: Genesis, skew_ms: int, behaviour: Behaviour | None
    ) -> None:
        self.name = identity.name
        self.key = identity.consensus_key
        self.genesis = genesis
        self.disk = SimDisk(random.Random(f"disk {cluster.plan.seed} {self.name}"))
        self.disk.history = format_history(self.key.public_key, genesis.hash)
        self.liar: Liar | None = None
        if behaviour is not None:
            dice = random.Random(f"liar {cluster.plan.seed} {self.name}")
            self.liar = Liar(behaviour, self.key, genesis.hash, dice)
        self.world: SimWorld | None = None
        self.skew_ms = skew_ms
        self.jump_ms = 0
        self._cluster = cluster
        self.store: ChainStore
        self.pool: TransactionPool
        self.replica: Replica

    @property
    def is_up(self) -> bool:
        """Whether the node runs."""
        return self.world is not None

    def start(self) -> None:
        """Switch on: read everything from the disk again."""
        self.disk.start()
        world = self.world = SimWorld(self._cluster, self)
        records, end = parse_wal(self.disk.log, "the simulated log")
        self.disk.log = self.disk.log[:end]
        self.store = ChainStore(Path(self.name), self.genesis, backing=SimBacking(self.disk))
        self.pool = TransactionPool(self.store, Mempool())
        history, key = SimHistory(self.disk), self.key
        self.replica = Replica(
            ReplicaParts(
                store=self.store,
                pool=self.pool,
                signer=self._cluster.make_signer(history, key, self.genesis.hash, is_honest=self.liar is None),
                wal=Wal(SimLog(self.disk)),
                logged=[decode_input(one) for one in records],
                world=world,
                block_interval_ms=BLOCK_INTERVAL_MS,
                on_finalized=lambda done: self._cluster.note_finalized(self, done),
                on_transactions=lambda _peer, _batch: Acceptance.IGNORE,
                timeouts=TIMEOUTS,
            )
        )
        world.call(self.replica.start)

    def stop(self) -> None:
        """Switch the power off. No timer or job of the node goes on."""
        if not self.disk.is_dead:
            self.disk.stop()
        self.world = None

    def forget(self) -> None:
        """Amnesia: delete the log and the signer's history, but not the key."""
        self.disk.log = b""
        self.disk.history = format_history(self.key.public_key, self.genesis.hash)

    def submit(self, transaction: Transaction) -> None:
        """Take a transaction of a user or peer; a refused one is ignored."""
        try:
            self.pool.submit(transaction)
        except InvalidTransaction:
            return

    def rebuild(self, proposal: Proposal) -> Proposal | None:
        """Another valid block in place of a proposed block."""
        head = self.store.get_head()
        if proposal.height != head.height + 1 or proposal.valid_round is not None:
            return None
        proposer = Proposer(self.key.public_key, partial(prove_beacon, self.key.seed))
        time_ms = proposal.block.header.time_ms + 7
        made = build_block(self.store, head, proposer, time_ms, (), (), self.pool.is_signed)
        return Proposal(proposal.height, proposal.round, None, made.block, self.key.public_key, bytes(64))


class SimWorld:
    """`World` of a node between two crashes."""

    def __init__(self, cluster: Cluster, node: SimNode) -> None:
        self._cluster = cluster
        self._node = node
        self._dice = cluster.dice

    def call(self, then: Callable[[], None]) -> None:
        """Run a callback of this node, which may crash in it. Does nothing if the node has crashed since."""
        if self._node.world is not self:
            return
        try:
            then()
        except Crashed:
            self._cluster.crash(self._node)

    def read_clock_ms(self) -> int:
        """See World."""
        return self._cluster.start_ms + self._cluster.schedule.now_ms + self._node.skew_ms + self._node.jump_ms

    def read_monotonic_ms(self) -> int:
        """See World."""
        return self._cluster.schedule.now_ms

    def random_below(self, bound: int) -> int:
        """See World."""
        return self._dice.randrange(bound)

    def set_timer(self, delay_ms: int, then: Callable[[], None]) -> None:
        """See World."""
        self._cluster.schedule.after(delay_ms, lambda: self.call(then))

    def start_job(self, job: Callable[[], T], then: Callable[[T], None]) -> None:
        """See World."""
        delay_ms = 1 + self._dice.randrange(self._cluster.plan.job_ms_max)
        self.set_timer(delay_ms, lambda: then(job()))

    def check_signatures(self, jobs: Sequence[SignatureJob], then: Callable[[list[bool]], None]) -> None:
        """See World."""
        self.set_timer(1, lambda: then([is_digest_signed(one.public_key, one.digest, one.signature) for one in jobs]))

    def publish(self, message: GossipMessage) -> None:
        """See World."""
        node, cluster = self._node, self._cluster
        peers = [name for name in cluster.nodes if name != node.name]
        outgoing: list[tuple[str, Any]] = [(peer, message) for peer in peers]
        if node.liar is not None:
            outgoing = node.liar.spread(message, peers, node.rebuild)
        else:
            cluster.checks.note_left(node, message)
        for peer, one in outgoing:
            cluster.network.send(node.name, peer, partial(cluster.deliver, node.name, peer, one))

    def list_peers(self) -> list[str]:
        """See World."""
        own, cluster = self._node.name, self._cluster
        return [
            name
            for name, node in cluster.nodes.items()
            if name != own and node.is_up and not cluster.network.is_cut(own, name)
        ]

    def request(self, peer: str, request: Request, then: Callable[[Response | None], None]) -> None:
        """See World."""
        cluster, own = self._cluster, self._node.name
        is_answered = False

        def answer(response: Response | None) -> None:
            nonlocal is_answered
            if not is_answered:
                is_answered = True
                self.call(lambda: then(response))

        def serve() -> None:
            served = cluster.nodes[peer]
            if served.world is None:
                return
            try:
                response: Any = served.replica.answer(own, request)
            except ProtocolError:
                response = None
            if served.liar is not None:
                response = served.liar.answer(response)
            else:
                cluster.checks.note_left(served, response)
            if response is not None:
                cluster.network.send(peer, own, lambda: answer(response))

        cluster.network.send(own, peer, lambda: served_call(cluster, peer, serve))
        self.set_timer(cluster.request_timeout_ms, lambda: answer(None))

    def penalise(self, peer: str, reason: str) -> None:
        """See World."""
        self._cluster.checks.note_blame(self._node, self._cluster.nodes[peer], reason)


def served_call(cluster: Cluster, peer: str, serve: Callable[[], None]) -> None:
    """Run a peer's service as the peer's own work: the peer may crash in it."""
    world = cluster.nodes[peer].world
    if world is not None:
        world.call(serve)
