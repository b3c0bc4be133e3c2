"""The recorded chain comes out the same: again, from exported state, in any order, under any hash seed, on disk, on the
newest Python."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from consensus.runtime.errors import BlockError
from consensus.runtime.validity import build_signature_check
from consensus.state.tree import EMPTY_ROOT, update
from node.chain.blocks import finalize_block, validate_block
from node.store.chain_store import ChainStore
from proto_specs.types.calls import Call, Transfer
from proto_specs.types.chain import compute_body_root
from tests.determinism.follower import Follower, encode_outcome
from tests.determinism.recording import PATH, Recording, hash_items, hash_plainly, load, record
from tests.determinism.replay import follow, replay

ROOT = Path(__file__).parents[2]
NEWEST_PYTHON = ROOT / "build" / "newest-python" / "python"
NEVER_FAILS = {"Remark", "TransferAll"}
"""Nothing refuses a remark; all of an account that can pay for the call can go."""


@pytest.fixture(scope="module")
def recording() -> Recording:
    return load()


def test_the_recording_is_what_the_story_makes(recording: Recording) -> None:
    assert PATH.name == "replay.json"
    assert json.loads(json.dumps(record())) == recording.raw, "see tests/determinism/recording.py"


def test_every_call_succeeds_and_fails_in_it(recording: Recording) -> None:
    counted = recording.raw["calls"]
    names = {one.__name__ for one in get_args(Call)}
    assert {name for name in names if counted.get(name, [0, 0])[0] == 0} == set(), "add an act to acts.py"
    assert {name for name in names - NEVER_FAILS if counted[name][1] == 0} == set()
    assert any(block.evidence for block in recording.blocks)
    assert len({block.header.validators_hash for block in recording.blocks}) > 2


@pytest.mark.parametrize("is_reversed", [False, True])
def test_replay(recording: Recording, is_reversed: bool) -> None:
    assert replay(recording, is_reversed).height == len(recording.blocks)


@pytest.mark.parametrize("height", [1, 99, 150, 199])
def test_export_and_import_in_between(recording: Recording, height: int) -> None:
    """The items alone, in a shuffled order, give the same root and the same rest of the chain."""
    before = Follower(recording.build_genesis())
    for block in recording.blocks[:height]:
        before.apply(block)
    exported = list(before.state.items.items())
    random.Random(height).shuffle(exported)
    tree = update(lambda path: None, EMPTY_ROOT, sorted(exported))
    assert tree.root == before.root
    after = Follower(before.genesis)
    after.__dict__.update(vars(before))
    after.state.items = dict(exported)
    after.pages = {path: page for path, page in tree.node_writes.items() if page is not None}
    assert after.pages == before.pages
    follow(after, recording)


def test_on_disk(recording: Recording, tmp_path: Path) -> None:
    """The node's own way through validation and LevelDB, closed and opened again halfway."""
    genesis = recording.build_genesis()
    is_signed = build_signature_check(genesis.hash)
    store = ChainStore(tmp_path / "db", genesis)
    for height, block in enumerate(recording.blocks, start=1):
        if height == 100:
            store.close()
            store = ChainStore(tmp_path / "db", genesis)
        head = store.get_head()
        made = validate_block(store, head, block, block.header.time_ms, is_signed)
        told = hash_plainly(encode_outcome(made.executed))
        found = (made.block_hash.hex(), made.tree.root.hex(), made.executed.receipts_root.hex(), told)
        assert found == recording.outcomes[height - 1]
        store.commit_block(finalize_block(store, head, made, recording.commit_of(height)))
    assert hash_items(store.iterate(b"")) == recording.raw["items"]
    store.close()


def run_elsewhere(python: str, hash_seed: str, *arguments: str) -> dict[str, object]:
    """The answer of `tests.determinism.replay` in a process of its own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    command = [python, "-m", "tests.determinism.replay", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize(
    ("hash_seed", "order"), [("0", ()), ("1", ("reversed",)), ("2", ()), ("random", ("reversed",))]
)
def test_under_another_hash_seed(recording: Recording, hash_seed: str, order: tuple[str, ...]) -> None:
    found = run_elsewhere(sys.executable, hash_seed, *order)
    assert (found["block_hash"], found["state_root"]) == recording.outcomes[-1][:2]


@pytest.mark.skipif(not NEWEST_PYTHON.exists(), reason="no newer Python unpacked: `make determinism` looks for one")
@pytest.mark.parametrize("hash_seed", ["0", "random"])
def test_on_the_newest_python(recording: Recording, hash_seed: str) -> None:
    found = run_elsewhere(str(NEWEST_PYTHON), hash_seed)
    assert tuple(map(int, str(found["python"]).split(".")[:2])) > sys.version_info[:2]
    assert (found["block_hash"], found["state_root"]) == recording.outcomes[-1][:2]


def test_a_changed_amount_is_seen(recording: Recording) -> None:
    """The check can fail: a transfer of one nmyl more, with everything that can be recomputed recomputed."""
    genesis = recording.build_genesis()
    follower = Follower(genesis)
    for block in recording.blocks:
        for index, one in enumerate(block.transactions):
            if not isinstance(one.body.call, Transfer):
                continue
            call = replace(one.body.call, amount=one.body.call.amount ^ 1)
            changed = list(block.transactions)
            changed[index] = replace(one, body=replace(one.body, call=call))
            body_root = compute_body_root(block.evidence, tuple(changed))
            forged = replace(block, header=replace(block.header, body_root=body_root), transactions=tuple(changed))
            with pytest.raises(BlockError, match="BadSignature"):
                follower.apply(forged)
            forged = replace(block, header=replace(block.header, state_root=bytes(32)))
            with pytest.raises(AssertionError):
                follower.apply(forged)
            return
        follower.apply(block)
    raise AssertionError("no transfer was recorded")
