"""GossipSub 1.1 of py-libp2p with its mesh kept and its message path replaced. Sections 16 to 20 of docs/upstream.md.

The library's router keeps the mesh: heartbeats, GRAFT, PRUNE, IHAVE, IWANT, back-off. This file replaces the message
path: a message is identified by its content, has no author (a message that needs one carries a signature), is judged
once, inline, by an `Acceptance`, and leaves no trace after the gossip window.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable

import trio
from google.protobuf.message import DecodeError
from libp2p.abc import IHost, INetStream
from libp2p.custom_types import MessageID, TProtocol
from libp2p.exceptions import BaseLibp2pError, ParseError
from libp2p.io.exceptions import MessageTooLarge
from libp2p.peer.id import ID
from libp2p.pubsub.gossipsub import PROTOCOL_ID_V11, GossipSub
from libp2p.pubsub.mcache import CacheEntry, MessageCache
from libp2p.pubsub.pb import rpc_pb2
from libp2p.pubsub.pubsub import Pubsub
from libp2p.utils import encode_varint_prefixed
from libp2p.utils.varint import read_varint_prefixed_bytes_limited

from node.machine.rate import RateLimit
from node.p2p.acceptance import Acceptance
from node.p2p.outbox import Outbox
from proto_specs.limits import GOSSIP_BYTES_MAX, KIB
from proto_specs.types.gossip import compute_message_id

logger = logging.getLogger(__name__)

OUTBOX_BYTES_MAX = 16 << 20
OUTBOX_CONTROL_MAX = 256
CONTROL_ENTRIES_MAX = 64
"""The most GRAFTs, PRUNEs, IHAVEs and IWANTs of each kind in one RPC. Honest peers send a few per topic."""
WANTED_MAX, SERVED_TIMES_MAX = 5_000, 2
"""The most ids that one IWANT is answered for, and how often one peer gets one message on request."""
ASKED_MAX = 20_000
MESSAGE_ID_BYTES = len(compute_message_id(b""))
RPC_BYTES_MAX = 4 * GOSSIP_BYTES_MAX
HEARTBEAT_S = 1
DEGREE, DEGREE_LOW, DEGREE_HIGH = 6, 4, 12
PEER_BYTES_PER_S, PEER_BURST_BYTES = 8 << 20, 32 << 20
"""The bytes a peer may send per second over all topics. Blocks of 2 MB a second, from every peer, need less."""
MESSAGE_COST_BYTES = 2 * KIB
"""What a message costs besides its bytes, which also bounds small messages: 4,000 a second."""

Judge = Callable[[str, str, bytes], Acceptance | Awaitable[Acceptance]]
"""(peer id, topic, data) -> the acceptance of the message, now or after a longer check."""


class ContentCache(MessageCache):
    """Section 17: the library's cache names messages by author and number, whatever id the application chose."""

    def put(self, msg: rpc_pb2.Message) -> None:
        """Keep a message for the gossip window."""
        message_id = compute_message_id(msg.data)
        if message_id not in self.msgs:
            self.msgs[message_id] = msg
            self.history[0].append(CacheEntry(message_id, msg.topicIDs))


def encode_rpc(rpc: rpc_pb2.RPC) -> bytes:
    """The wire bytes of an RPC."""
    return encode_varint_prefixed(rpc.SerializeToString())


class ChainRouter(GossipSub):
    """The mesh. It never sends peer records: peers come from the chain and the address book."""

    def __init__(self) -> None:
        super().__init__(
            protocols=[PROTOCOL_ID_V11],
            degree=DEGREE,
            degree_low=DEGREE_LOW,
            degree_high=DEGREE_HIGH,
            heartbeat_initial_delay=0.1,
            heartbeat_interval=HEARTBEAT_S,
            prune_back_off=10,
            unsubscribe_back_off=2,
            adaptive_gossip_enabled=False,
            spam_protection_enabled=False,
            eclipse_protection_enabled=False,
        )
        self.mcache = ContentCache(3, 5)
        self._served: Counter[tuple[ID, bytes]] = Counter()
        self._asked: set[bytes] = set()

    async def publish(self, msg_forwarder: ID, pubsub_msg: rpc_pb2.Message) -> None:
        """Pass a message on to the mesh of its topic. Section 18: no signed record, and no copy for other peers."""
        assert self.pubsub is not None
        self.mcache.put(pubsub_msg)
        data = encode_rpc(rpc_pb2.RPC(publish=[pubsub_msg]))
        for peer in self._get_peers_to_send(pubsub_msg.topicIDs, msg_forwarder, origin=msg_forwarder):
            self._push(peer, data, is_control=False)

    def send_rpc(self, peer_id: ID, rpc: rpc_pb2.RPC, priority: bool = False) -> None:
        """Send an RPC of the library's router. Section 20: it goes into the peer's outbox."""
        self._push(peer_id, encode_rpc(rpc), is_control=priority)

    async def emit_control_message(self, control_msg: rpc_pb2.ControlMessage, to_peer: ID) -> None:
        """Send a control message on its own."""
        self.send_rpc(to_peer, rpc_pb2.RPC(control=control_msg), priority=True)

    async def handle_rpc(self, rpc: rpc_pb2.RPC, sender_peer_id: ID) -> None:
        """Section 21: handles control for our topics only, a bounded number of times, and learns no peers from it."""
        control = rpc.control
        for graft in control.graft[:CONTROL_ENTRIES_MAX]:
            if graft.topicID in self.mesh:
                await self.handle_graft(graft, sender_peer_id)
        for prune in control.prune[:CONTROL_ENTRIES_MAX]:
            if prune.topicID in self.mesh:
                del prune.peers[:]
                await self.handle_prune(prune, sender_peer_id)
        for ihave in control.ihave[:CONTROL_ENTRIES_MAX]:
            if ihave.topicID in self.mesh:
                await self.handle_ihave(ihave, sender_peer_id)
        for iwant in control.iwant[:CONTROL_ENTRIES_MAX]:
            await self.handle_iwant(iwant, sender_peer_id)

    async def handle_ihave(self, ihave_msg: rpc_pb2.ControlIHave, sender_peer_id: ID) -> None:
        """Ask for unseen messages. Each is asked of one peer until the next heartbeat, even if other peers offer it."""
        assert self.pubsub is not None
        wanted = [
            one
            for one in dict.fromkeys(ihave_msg.messageIDs[:WANTED_MAX])
            if len(one) == MESSAGE_ID_BYTES and one not in self._asked and not self.pubsub.seen_messages.has(one)
        ]
        if wanted and len(self._asked) < ASKED_MAX:
            self._asked.update(wanted)
            await self.emit_iwant([MessageID(one) for one in wanted], sender_peer_id)

    async def handle_iwant(self, iwant_msg: rpc_pb2.ControlIWant, sender_peer_id: ID) -> None:
        """Section 21: sends each message to each peer at most twice, however often the peer asks."""
        for message_id in dict.fromkeys(iwant_msg.messageIDs[:WANTED_MAX]):
            message = self.mcache.get(message_id)
            if message is None or self._served[sender_peer_id, message_id] >= SERVED_TIMES_MAX:
                continue
            self._served[sender_peer_id, message_id] += 1
            self._push(sender_peer_id, encode_rpc(rpc_pb2.RPC(publish=[message])), is_control=False)

    async def send_recent_messages(self, peer_id: ID, topic: str) -> None:
        """Section 21: nothing is replayed for a subscription; a peer asks for the messages it lacks."""

    def mesh_heartbeat(self) -> tuple[defaultdict[ID, list[str]], defaultdict[ID, list[str]]]:
        """Runs the library's heartbeat. Undelivered messages may then be asked of another peer."""
        self._asked.clear()
        gone = [key for key in self._served if key[1] not in self.mcache.msgs]
        for key in gone:
            del self._served[key]
        return super().mesh_heartbeat()

    def _push(self, peer: ID, data: bytes, *, is_control: bool) -> None:
        assert isinstance(self.pubsub, ChainPubsub)
        outbox = self.pubsub.outboxes.get(peer)
        if outbox is not None and not outbox.push(data, is_control=is_control):
            logger.debug("outbox of %s is full: %d bytes are dropped", peer, len(data))


class ChainPubsub(Pubsub):
    """Streams and messages of all topics of one host."""

    def __init__(self, host: IHost, router: ChainRouter, topics: frozenset[str], judge: Judge) -> None:
        super().__init__(
            host,
            router,
            strict_signing=False,
            msg_id_constructor=lambda message: compute_message_id(message.data),
            max_inbound_rpc_size=RPC_BYTES_MAX,
            allowed_topics=topics,
        )
        self.outboxes: dict[ID, Outbox] = {}
        self._judge = judge
        self._rate = RateLimit(PEER_BYTES_PER_S, PEER_BURST_BYTES)

    def get_hello_packet(self) -> rpc_pb2.RPC:
        """Our subscriptions."""
        packet = rpc_pb2.RPC()
        for topic in self.topic_ids:
            packet.subscriptions.append(rpc_pb2.RPC.SubOpts(subscribe=True, topicid=topic))
        return packet

    async def publish(self, topic_id: str | list[str], data: bytes) -> None:
        """Send a message of our own; it is not judged."""
        topics = [topic_id] if isinstance(topic_id, str) else topic_id
        message = rpc_pb2.Message(data=data, topicIDs=topics)
        if not self._is_msg_seen(message):
            self._mark_msg_seen(message)
            await self.router.publish(self.my_id, message)

    async def message_all_peers(self, raw_msg: bytes, announce: rpc_pb2.RPC.SubOpts | None = None) -> None:
        """Tell all peers of a subscription."""
        for outbox in self.outboxes.values():
            outbox.push(encode_varint_prefixed(raw_msg), is_control=True)

    async def push_msg(self, msg_forwarder: ID, msg: rpc_pb2.Message) -> None:
        """Section 16: judge a peer's message. An ignored message may be judged again when another peer brings it."""
        if len(msg.topicIDs) != 1 or len(msg.data) > GOSSIP_BYTES_MAX or msg.from_id or msg.signature:
            self._judge_malformed(msg_forwarder)
            return
        if self._is_msg_seen(msg):
            return
        acceptance = self._judge(msg_forwarder.to_base58(), msg.topicIDs[0], msg.data)
        if not isinstance(acceptance, Acceptance):
            self._mark_msg_seen(msg)
            self.manager.run_task(self._judge_later, acceptance, msg_forwarder, msg)
            return
        if acceptance is not Acceptance.IGNORE:
            self._mark_msg_seen(msg)
        if acceptance is Acceptance.ACCEPT:
            await self.router.publish(msg_forwarder, msg)

    async def _judge_later(self, acceptance: Awaitable[Acceptance], forwarder: ID, msg: rpc_pb2.Message) -> None:
        if await acceptance is Acceptance.ACCEPT:
            await self.router.publish(forwarder, msg)

    def _judge_malformed(self, forwarder: ID) -> None:
        self._judge(forwarder.to_base58(), "", b"")

    async def continuously_read_stream(self, stream: INetStream) -> None:
        """Section 19: messages are handled one after the other, so a flooding peer delays only itself."""
        peer_id = stream.muxed_conn.peer_id
        while self.manager.is_running:
            rpc = rpc_pb2.RPC()
            try:
                data = await read_varint_prefixed_bytes_limited(stream, self.max_inbound_rpc_size)
                rpc.ParseFromString(data)
            except (DecodeError, MessageTooLarge) as error:
                self._judge_malformed(peer_id)
                raise ParseError(f"RPC of {peer_id}: {error}") from error
            cost = len(data) + MESSAGE_COST_BYTES * (1 + len(rpc.publish) + len(rpc.subscriptions))
            await trio.sleep(self._rate.take(peer_id.to_base58(), cost, trio.current_time()))
            for subscription in rpc.subscriptions:
                self.handle_subscription(peer_id, subscription)
            for message in rpc.publish:
                if self._is_subscribed_to_msg(message):
                    await self.push_msg(peer_id, message)
            if rpc.HasField("control"):
                await self.router.handle_rpc(rpc, peer_id)

    async def _handle_new_peer(self, peer_id: ID) -> None:
        """Section 20: the library's queue silently drops messages beyond 32 places."""
        if peer_id in self.peers:
            return
        stream = await self.host.new_stream(peer_id, list(self.protocols))
        await stream.write(encode_rpc(self.get_hello_packet()))
        if peer_id in self.peers:  # another connection was quicker
            await stream.reset()
            return
        self.router.add_peer(peer_id, TProtocol(stream.get_protocol() or PROTOCOL_ID_V11))
        self.peers[peer_id] = stream
        outbox = self.outboxes[peer_id] = Outbox(OUTBOX_BYTES_MAX, OUTBOX_CONTROL_MAX)
        self.manager.run_task(self._send_waiting, peer_id, stream, outbox)

    async def _send_waiting(self, peer_id: ID, stream: INetStream, outbox: Outbox) -> None:
        try:
            while (data := await outbox.pop()) is not None:
                await stream.write(data)
        except BaseLibp2pError as error:
            logger.debug("nothing more goes to %s: %s", peer_id, error)
        finally:
            await stream.reset()
            if self.outboxes.get(peer_id) is outbox:
                self._handle_dead_peer(peer_id)

    def _handle_dead_peer(self, peer_id: ID) -> None:
        outbox = self.outboxes.pop(peer_id, None)
        if outbox is not None:
            outbox.close()
        super()._handle_dead_peer(peer_id)

    def adopt(self) -> None:
        """Section 22: meet peers again whose topic stream could not be opened or that connected before this ran."""
        for peer_id in self.host.get_connected_peers():
            if peer_id not in self.peers:
                self._schedule_peer_stream_retry(peer_id)

    def forget(self, peers: Iterable[str]) -> None:
        """Drop the records of peers that are gone."""
        self._rate.forget(peers)
