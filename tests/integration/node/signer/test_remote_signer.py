"""A signer process and nodes that ask it: refusals travel, one node at a time, and kill -9 contradicts nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from consensus.beacon import prove_beacon
from genesis.dev import build_dev_spec
from genesis.spec import compute_genesis_hash, save_spec
from node.full.settings import NodePaths
from node.signer.remote.client import RemoteSigner
from node.signer.signer import Signer, SignerError, SignerUnreachable, SignRefused, VoteSlot
from proto_specs.ed25519 import is_signature_valid
from proto_specs.hashing import Tag
from proto_specs.types.chain import Vote, VoteKind, compute_vote_bytes
from tests.unit.node.world import ALICE

SPEC = build_dev_spec()
GENESIS = compute_genesis_hash(SPEC)
PATIENCE_S = 10.0
CRASHING = """
import os, sys
import node.signer.signer
written = node.signer.signer.write_synced
def write_and_die(*args):
    written(*args)
    os.kill(os.getpid(), 9)
if sys.argv.pop(1) == "dies":
    node.signer.signer.write_synced = write_and_die
from node.cli.main import main
main()
"""


@dataclass
class Process:
    """`myelin signer serve` with alice's key."""

    base: Path

    @property
    def socket(self) -> Path:
        return self.base / "s"

    def start(self, how: str = "lives") -> subprocess.Popen[str]:
        command = [
            "signer",
            "serve",
            "--validator",
            "dev:alice",
            "--base",
            str(self.base),
            "--socket",
            str(self.socket),
        ]
        running = subprocess.Popen(
            [sys.executable, "-c", CRASHING, how, *command], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert running.stderr is not None
        assert "serving" in running.stderr.readline()
        return running

    def connect(self) -> RemoteSigner:
        return RemoteSigner(self.socket, GENESIS, PATIENCE_S)


def end(running: subprocess.Popen[str], number: int = signal.SIGTERM) -> None:
    """Stop it, and read what it said."""
    if running.poll() is None:
        running.send_signal(number)
    running.communicate(timeout=20)


@pytest.fixture
def process(tmp_path: Path) -> Process:
    paths = NodePaths(tmp_path)
    save_spec(SPEC, paths.spec)
    Signer.initialise(paths.signer, ALICE.consensus_key, GENESIS)
    return Process(tmp_path)


@pytest.fixture
def running(process: Process) -> Iterator[subprocess.Popen[str]]:
    found = process.start()
    yield found
    end(found)


def vote_bytes(block_hash: bytes, height: int = 5) -> bytes:
    return compute_vote_bytes(GENESIS, VoteKind.PREVOTE, height, 0, block_hash)


def make_vote(signature: bytes, block_hash: bytes, height: int = 5) -> Vote:
    return Vote(VoteKind.PREVOTE, height, 0, block_hash, ALICE.consensus_key.public_key, signature)


def test_it_signs_proves_remembers_and_refuses_as_a_signer_here(
    process: Process, running: subprocess.Popen[str]
) -> None:
    remote, payload = process.connect(), vote_bytes(b"a" * 32)
    assert remote.public_key == ALICE.consensus_key.public_key
    signature = remote.sign(5, 0, VoteSlot.PREVOTE, payload)
    assert is_signature_valid(remote.public_key, Tag.VOTE_SIGN, payload, signature)
    assert remote.sign(5, 0, VoteSlot.PREVOTE, payload) == signature
    with pytest.raises(SignRefused, match="another prevote was signed at height 5"):
        remote.sign(5, 0, VoteSlot.PREVOTE, vote_bytes(b"b" * 32))
    assert remote.list_votes(5) == [make_vote(signature, b"a" * 32)]
    assert remote.has_signed(make_vote(signature, b"a" * 32))
    assert not remote.has_signed(make_vote(signature, b"b" * 32))
    assert remote.prove_beacon(b"p" * 32, 7) == prove_beacon(ALICE.consensus_key.seed, b"p" * 32, 7)
    remote.close()
    assert process.socket.stat().st_mode & 0o077 == 0, "nobody else may connect"


def test_two_payloads_for_one_slot_over_two_connections_give_one_signature(
    process: Process, running: subprocess.Popen[str]
) -> None:
    first = process.connect()
    first.sign(5, 0, VoteSlot.PREVOTE, vote_bytes(b"a" * 32))
    first.close()
    second = process.connect()
    with pytest.raises(SignRefused):
        second.sign(5, 0, VoteSlot.PREVOTE, vote_bytes(b"b" * 32))
    second.close()


def test_a_second_node_is_turned_away_until_the_first_has_gone(
    process: Process, running: subprocess.Popen[str]
) -> None:
    first = process.connect()
    with pytest.raises(SignerError, match="another node is connected"):
        process.connect()
    first.sign(1, 0, VoteSlot.PREVOTE, b"x")
    first.close()
    process.connect().close()


def test_a_node_on_another_chain_is_turned_away(process: Process, running: subprocess.Popen[str]) -> None:
    with pytest.raises(SignerError, match="another chain"):
        RemoteSigner(process.socket, b"h" * 32, PATIENCE_S)


@pytest.mark.parametrize(
    "said", [b"\xff" * 40, struct.pack(">I", 1 << 31), struct.pack(">I", 3) + b"abc", struct.pack(">I", 9) + b"\2"]
)
def test_garbage_costs_only_who_sends_it(process: Process, running: subprocess.Popen[str], said: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as attacker:
        attacker.connect(str(process.socket))
        attacker.sendall(said)
        attacker.settimeout(PATIENCE_S)
        with contextlib.suppress(ConnectionResetError):  # it went without hearing us out
            while attacker.recv(1 << 16):
                pass
    remote = process.connect()
    remote.sign(1, 0, VoteSlot.PREVOTE, b"x")
    remote.close()
    assert running.poll() is None


def test_killed_between_disk_and_answer_it_gives_the_same_signature_when_asked_again(process: Process) -> None:
    dying, payload = process.start("dies"), vote_bytes(b"a" * 32)
    remote = process.connect()
    with pytest.raises(SignerUnreachable, match="signer serve"):
        remote.sign(5, 0, VoteSlot.PREVOTE, payload)
    end(dying)
    assert dying.returncode == -signal.SIGKILL
    assert remote.list_votes(5) == [], "nobody answers: nothing is known, nothing is raised"
    again = process.start()
    try:
        (known,) = remote.list_votes(5)
        assert remote.sign(5, 0, VoteSlot.PREVOTE, payload) == known.signature, "the same node, connected anew"
        with pytest.raises(SignRefused):
            remote.sign(5, 0, VoteSlot.PREVOTE, vote_bytes(b"b" * 32))
        remote.close()
    finally:
        end(again)


def test_a_signer_that_is_stuck_stalls_its_node_once_and_then_not(
    process: Process, running: subprocess.Popen[str]
) -> None:
    now = [0.0]
    remote = RemoteSigner(process.socket, GENESIS, PATIENCE_S, lambda: now[0])
    remote._answer_s_max = 0.05  # noqa: SLF001
    os.kill(running.pid, signal.SIGSTOP)
    with pytest.raises(SignerUnreachable, match="timed out"):
        remote.sign(1, 0, VoteSlot.PREVOTE, b"x")
    with pytest.raises(SignerUnreachable, match="asked again soon"):
        remote.sign(1, 0, VoteSlot.PREVOTE, b"x")
    os.kill(running.pid, signal.SIGCONT)
    now[0], remote._answer_s_max = 60.0, PATIENCE_S  # noqa: SLF001
    assert remote.sign(1, 0, VoteSlot.PREVOTE, b"x")
    remote.close()


def test_without_a_signer_a_node_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SignerError, match="myelin signer serve"):
        RemoteSigner(tmp_path / "nobody", GENESIS)
