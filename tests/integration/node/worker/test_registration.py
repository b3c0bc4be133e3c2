"""A worker's record: what is announced when, one key in one place, and the end of one that was replaced."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from consensus.runtime.inference.state import WorkerStatus
from node.client.chain_view import ChainUnreachable, WorkerEntry
from node.p2p.host import P2PHost, open_host
from node.worker.compute import ComputeLoad
from node.worker.departure import Departure
from node.worker.errors import WorkerRefused, WorkerReplaced
from node.worker.presence import Presence
from node.worker.probe import Prober, serve_probes
from node.worker.registration import ANNOUNCE_S_MIN, RecordWatch, register
from proto_specs.ed25519 import SigningKey
from proto_specs.types.calls import RegisterWorker, UpdateWorker

GENESIS, MODEL, OPERATOR = b"g" * 32, b"m" * 32, b"o" * 32
KEY = SigningKey.from_seed(b"w" * 32)
LOOPBACK = ["/ip4/127.0.0.1/tcp/0"]


@dataclass(frozen=True)
class Offer:
    model: bytes = MODEL
    start: int = 0
    end: int = 2
    worker_key: SigningKey = KEY
    bond: int = 5
    prefill_price: int = 10
    decode_price: int = 20


@dataclass
class FakeLedger:
    """An account and its chain, which knows one worker. Calls happen at once."""

    entry: WorkerEntry | None = None
    sent: list[Any] = field(default_factory=list)
    genesis: bytes = GENESIS
    public_key: bytes = OPERATOR
    height: int = 7
    is_reachable: bool = True

    @property
    def chain(self) -> FakeLedger:
        return self

    async def get_worker(self, _worker: bytes, *, fresh: bool = False) -> WorkerEntry | None:
        return self.entry

    async def get_health(self) -> Any:
        if not self.is_reachable:
            raise ChainUnreachable("no node")
        return SimpleNamespace(height=self.height)

    async def read(self, _query: Any, _worker: bytes) -> Any:
        assert self.entry is not None
        status = WorkerStatus.ABSENT if self.entry.is_absent else WorkerStatus.ACTIVE
        return SimpleNamespace(status=status, peer_id=self.entry.peer_id)

    async def execute(self, call: Any) -> None:
        self.sent.append(call)
        if isinstance(call, RegisterWorker):
            self.entry = make_entry(call.peer_id, call.addresses)
            return
        assert isinstance(call, UpdateWorker)
        assert self.entry is not None
        self.entry = replace(
            self.entry,
            peer_id=call.peer_id,
            addresses=call.addresses,
            prefill_price=call.prefill_price,
            decode_price=call.decode_price,
            is_active=True,
            is_absent=False,
        )


class NoLoad:
    def read_load(self) -> ComputeLoad:
        return ComputeLoad(0, 0, 1, 1, 0)


def make_entry(peer_id: str, addresses: tuple[str, ...], **fields: Any) -> WorkerEntry:
    prices = {"prefill_price": 10, "decode_price": 20}
    entry = WorkerEntry(
        worker=KEY.public_key,
        operator=OPERATOR,
        model=MODEL,
        start=0,
        end=2,
        bond=5,
        gross_max=1,
        peer_id=peer_id,
        addresses=addresses,
        is_active=True,
        is_leaving=False,
        **prices,
    )
    return replace(entry, **fields)


@asynccontextmanager
async def open_other(seed: bytes = b"1" * 32) -> AsyncIterator[tuple[P2PHost, Presence]]:
    """A worker that serves with the key already."""
    async with open_host(seed, LOOPBACK) as host:
        presence = Presence()
        entry = make_entry(host.peer_id, tuple(host.addresses))
        serve_probes(host, Prober(entry, host.peer_id, GENESIS, KEY, NoLoad(), presence, lambda: 0))  # type: ignore[arg-type]
        yield host, presence


async def start(ledger: FakeLedger, offer: Offer | None = None, seed: bytes = b"2" * 32) -> WorkerEntry:
    async with open_host(seed, LOOPBACK) as host:
        return await register(offer or Offer(), ledger, host)  # type: ignore[arg-type]


async def test_a_new_worker_bonds() -> None:
    ledger = FakeLedger()
    entry = await start(ledger)
    (call,) = ledger.sent
    assert isinstance(call, RegisterWorker)
    assert (call.bond, call.prefill_price, call.decode_price) == (5, 10, 20)
    assert entry.peer_id == call.peer_id


@pytest.mark.parametrize(
    "change",
    [
        lambda entry: replace(entry, prefill_price=11),
        lambda entry: replace(entry, decode_price=19),
        lambda entry: replace(entry, is_active=False, is_absent=True),
        lambda entry: replace(entry, addresses=("/ip4/127.0.0.1/tcp/1/p2p/" + entry.peer_id,)),
    ],
)
async def test_whatever_differs_is_announced(change: Callable[[WorkerEntry], WorkerEntry]) -> None:
    ledger = FakeLedger()
    async with open_host(b"2" * 32, LOOPBACK) as host:
        ledger.entry = change(make_entry(host.peer_id, tuple(host.addresses)))
        await register(Offer(), ledger, host)  # type: ignore[arg-type]
        assert ledger.sent == [UpdateWorker(KEY.public_key, host.peer_id, tuple(host.addresses), 10, 20)]


async def test_what_is_as_announced_costs_nothing() -> None:
    ledger = FakeLedger()
    async with open_host(b"2" * 32, LOOPBACK) as host:
        ledger.entry = make_entry(host.peer_id, tuple(host.addresses))
        await register(Offer(), ledger, host)  # type: ignore[arg-type]
    assert ledger.sent == []


async def test_other_layers_and_a_retired_key_are_refused() -> None:
    for entry, offer, said in (
        (make_entry("peer", ()), Offer(end=3), "registered for layers 0:2"),
        (make_entry("peer", (), is_leaving=True, is_active=False), Offer(), "retired or ejected"),
    ):
        ledger = FakeLedger(entry)
        with pytest.raises(WorkerRefused, match=said):
            await start(ledger, offer)
        assert ledger.sent == []


@pytest.mark.parametrize("seed", [b"2" * 32, b"1" * 32], ids=["another node key", "a copied node key"])
async def test_a_second_place_is_refused_while_the_first_answers(seed: bytes) -> None:
    async with open_other() as (other, presence):
        ledger = FakeLedger(make_entry(other.peer_id, tuple(other.addresses)))
        with pytest.raises(WorkerRefused, match="runs already, at /ip4") as refusal:
            await start(ledger, seed=seed)
        assert other.addresses[0] in str(refusal.value)
        presence.leaving = "a signal"
        with pytest.raises(WorkerRefused, match="just leaving"):
            await start(ledger, seed=seed)
        assert ledger.sent == []


async def test_a_dead_place_is_taken_over() -> None:
    async with open_other() as (other, _):
        ledger = FakeLedger(make_entry(other.peer_id, tuple(other.addresses)))
    entry = await start(ledger)
    assert [type(one) for one in ledger.sent] == [UpdateWorker]
    assert entry.peer_id != other.peer_id


async def test_who_answers_at_the_address_under_another_key_is_nobody() -> None:
    async with open_host(b"1" * 32, LOOPBACK) as host:
        stranger = SigningKey.from_seed(b"s" * 32)
        entry = make_entry(host.peer_id, tuple(host.addresses))
        prober = Prober(entry, host.peer_id, GENESIS, stranger, NoLoad(), Presence(), lambda: 0)  # type: ignore[arg-type]
        serve_probes(host, prober)
        ledger = FakeLedger(entry)
        await start(ledger)
    assert [type(one) for one in ledger.sent] == [UpdateWorker]


async def test_one_that_was_replaced_departs_and_does_not_speak_for_the_key() -> None:
    async with open_host(b"2" * 32, LOOPBACK) as host:
        ledger, departure, presence = FakeLedger(make_entry(host.peer_id, ())), Departure(), Presence()
        watch = RecordWatch(Offer(), ledger, host, presence, departure)  # type: ignore[arg-type]
        await watch.look()
        assert (presence.height, departure.is_asked) == (7, False)
        ledger.entry = replace(ledger.entry, peer_id="another")  # type: ignore[type-var]
        with trio.fail_after(5):
            await watch.run()
        assert departure.is_asked
        assert not departure.tells_chain
        assert watch.replaced_by == "another"
        assert ledger.sent == []
        assert "another" in str(WorkerReplaced(KEY.public_key, watch.replaced_by))


async def test_one_marked_absent_while_it_serves_announces_itself_now_and_then(autojump_clock: object) -> None:
    host = SimpleNamespace(peer_id="peer", addresses=["/ip4/127.0.0.1/tcp/1"])
    ledger, departure = FakeLedger(make_entry("peer", ())), Departure()
    began_s, watch = trio.current_time(), RecordWatch(Offer(), ledger, host, Presence(), departure)  # type: ignore[arg-type]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        at_s: list[float] = []
        for _ in range(200):
            ledger.entry = replace(ledger.entry, is_absent=True, is_active=False)  # type: ignore[type-var]
            await trio.sleep(1)
            at_s += [trio.current_time()] * (len(ledger.sent) - len(at_s))
        gaps = [after - before for before, after in itertools.pairwise((began_s, *at_s))]
        assert [round(one / ANNOUNCE_S_MIN) for one in gaps] == [1, 2, 4], "rarer each time: it costs a fee"
        departure.ask("a signal")
        ledger.entry = replace(ledger.entry, is_absent=True, is_active=False)  # type: ignore[type-var]
        ledger.is_reachable = False
        await trio.sleep(500)
        ledger.is_reachable = True
        await trio.sleep(2_000)
        assert len(ledger.sent) == 3, "one that leaves stays absent"
        nursery.cancel_scope.cancel()
