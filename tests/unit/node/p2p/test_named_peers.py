"""A peer that the operator named and that is not reached, or is of another chain: told once, with the reason."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import pytest
import trio

from node.p2p.errors import NetworkError
from node.p2p.host import P2PHost
from node.p2p.peer_book import PeerBook
from node.p2p.peer_manager import PeerManager
from tests.unit.node.p2p.test_peer_manager import make_address, make_id


class Host:
    """Reaches who is in `there`."""

    def __init__(self) -> None:
        self.there: set[str] = set()
        self.connected: list[str] = []

    def peers(self) -> list[str]:
        return self.connected

    def is_outbound(self, _peer: str) -> bool:
        return True

    def watch(self, _told: Any) -> None:
        pass

    async def connect(self, address: str, timeout_s: float) -> None:
        peer = address.rpartition("/")[2]
        if peer not in self.there:
            raise NetworkError(f"cannot connect to {address}: no address for this name")
        self.connected.append(peer)

    async def disconnect(self, peer: str) -> None:
        self.connected = [one for one in self.connected if one != peer]


async def run_for(seconds: float, host: Host, book: PeerBook, is_ours: bool) -> None:
    async def check(_peer: str) -> bool:
        return is_ours

    with trio.move_on_after(seconds):
        await PeerManager(cast(P2PHost, host), book, check).run()


def list_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in caplog.records if one.levelno >= logging.WARNING]


async def test_a_named_peer_that_is_not_reached(autojump_clock, tmp_path: Path, caplog) -> None:
    book = PeerBook(tmp_path / "peers.json", make_id(0))
    book.add(make_address(1), is_named=True)
    book.add(make_address(2))
    await run_for(300, Host(), book, is_ours=True)
    (told,) = list_warnings(caplog)
    assert make_id(1) in told
    assert "no address for this name" in told


async def test_a_named_peer_of_another_chain(autojump_clock, tmp_path: Path, caplog) -> None:
    book = PeerBook(tmp_path / "peers.json", make_id(0))
    book.add(make_address(1), is_named=True)
    host = Host()
    host.there = {make_id(1)}
    await run_for(300, host, book, is_ours=False)
    (told,) = list_warnings(caplog)
    assert "it is of another chain" in told
    assert host.connected == []
