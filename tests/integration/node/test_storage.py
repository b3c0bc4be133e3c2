"""The disk as an operator meets it: snapshots, checks and repairs by command, and what to do where none helps."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
from typer.testing import CliRunner

from consensus.runtime.validity import build_signature_check
from node.chain.blocks import finalize_block, validate_block
from node.cli.main import app
from node.full.settings import NodePaths
from node.store.chain_store import ChainStore
from tests.integration.node.processes import NodeDirectory, run_myelin

pytestmark = pytest.mark.slow

STATES = 3


@dataclass(frozen=True)
class Said:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


async def run_process(*arguments: str) -> Said:
    """A command in a process of its own; nothing it says is a traceback."""
    done = await trio.to_thread.run_sync(run_myelin, *arguments)
    assert "Traceback" not in done.stderr
    return Said(done.returncode, done.stdout, done.stderr)


async def command(*arguments: str) -> Said:
    """The same in this process, which has imported everything already."""
    done = await trio.to_thread.run_sync(lambda: CliRunner().invoke(app, list(arguments)))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return Said(done.exit_code, done.stdout, done.stderr)


def parse(said: Said, status: int = 0) -> dict[str, Any]:
    """The JSON on standard output, or that of an error on standard error."""
    assert said.status == status, said
    found: dict[str, Any] = json.loads(said.stdout or said.stderr)
    return found


async def ask(*arguments: str, status: int = 0) -> dict[str, Any]:
    """The JSON a command answers with."""
    return parse(await command(*arguments, "--json"), status)


async def run_to(node: NodeDirectory, height: int) -> int:
    """Run a node for so many blocks and stop it as an operator does."""
    async with node.run() as run:
        found = await run.wait_for_height(height)
        assert await run.stop() == 0
    assert "Traceback" not in node.log.read_text()
    return found


def follow(behind: Path, ahead: Path, genesis_of: NodeDirectory) -> int:
    """The blocks of one database are valid on the other and lead it to the same head. How many."""
    genesis = genesis_of.load_genesis()
    store, other = ChainStore(behind, genesis), ChainStore(ahead, genesis)
    try:
        first = store.get_head().height
        for height in range(first + 1, other.get_head().height + 1):
            block, commit, head = other.get_block(height), other.get_commit(height), store.get_head()
            assert block is not None
            assert commit is not None
            made = validate_block(store, head, block, block.header.time_ms, build_signature_check(genesis.hash))
            store.commit_block(finalize_block(store, head, made, commit))
        assert store.get_head() == other.get_head()
        return other.get_head().height - first
    finally:
        store.close()
        other.close()


async def test_a_snapshot_taken_by_command_is_gone_on_from_with_equal_roots(tmp_path: Path) -> None:
    node, base = NodeDirectory.init(tmp_path / "node", interval_ms=100), str(tmp_path / "node")
    async with node.run() as run:
        await run.wait_for_height(4)
        taken = parse(await run_process("snapshot", "export", str(tmp_path / "running"), "--base", base, "--json"))
        assert await ask("snapshot", "info", str(tmp_path / "running")) == taken
        await run.wait_for_height(taken["height"] + 1)  # the export after the end has more
        assert await run.stop() == 0
    exported = await ask("snapshot", "export", str(tmp_path / "stopped"), "--base", base)
    assert exported["height"] > taken["height"] >= 4
    older = await ask("snapshot", "export", str(tmp_path / "older"), "--base", base, "--height", str(taken["height"]))
    assert older == taken
    again = await command("snapshot", "export", str(tmp_path / "older"), "--base", base)
    assert again == Said(1, "", f"error: {tmp_path / 'older'} exists: name a new directory\n")

    other = NodeDirectory(tmp_path / "other", options=("--pruning", str(STATES)))
    spec = ("--chain", str(node.base / "chain.json"))
    arguments = ("snapshot", "import", str(tmp_path / "stopped"), "--base", str(other.base), *spec, "--json")
    imported = parse(await run_process(*arguments))
    assert {name: imported[name] for name in ("height", "block", "state_root")} == {
        name: exported[name] for name in ("height", "block", "state_root")
    }
    assert imported["next"] == f"myelin run --base {other.base}"
    refused = await ask("snapshot", "import", str(tmp_path / "older"), "--base", str(other.base), status=1)
    assert "into an empty directory only" in refused["message"]

    (tmp_path / "history.json").write_text((await command("signer", "export", "--base", base)).stdout)
    moved = await command("signer", "import", str(tmp_path / "history.json"), "--base", str(other.base))
    assert moved.status == 0, moved.stderr
    await run_to(other, exported["height"] + STATES + 3)
    found = await ask("db", "check", "--base", str(other.base))
    assert (found["is_whole"], found["states"]) == (True, STATES)
    assert follow(node.base / "db", other.base / "db", node) > STATES + 2


async def test_damage_is_found_and_repaired_by_command_or_the_way_out_is_named_and_works(tmp_path: Path) -> None:
    node, base = NodeDirectory.init(tmp_path / "node", interval_ms=100), str(tmp_path / "node")
    async with node.run() as run:
        await run.wait_for_height(3)
        locked = await ask("db", "check", "--base", base, status=1)
        assert locked["error"] == "DatabaseLocked"
        assert await run.stop() == 0
    sound = await run_process("db", "check", "--base", base)
    assert (sound.status, sound.stderr) == (0, "")
    assert sound.stdout.endswith("everything fits: start the node\n")
    (tmp_path / "node" / "db" / "CURRENT").unlink()
    damaged = await ask("db", "check", "--base", base, status=1)
    assert not damaged["is_whole"]
    assert "CURRENT is missing). Run `myelin db repair`" in damaged["problems"][0][1]
    repaired = parse(await run_process("db", "repair", "--base", base, "--json"))
    assert (repaired["is_whole"], repaired["next"]) == (True, "everything fits: start the node")
    height = await run_to(node, repaired["height"] + 2)

    snapshot = await ask("snapshot", "export", str(tmp_path / "snapshot"), "--base", base)
    for log in (tmp_path / "node" / "db").glob("*.log"):
        log.write_bytes(log.read_bytes()[: log.stat().st_size // 2])
    refused = await run_process(*node.argv()[3:])
    assert refused.status == 1
    assert f"had block {snapshot['height']} " in refused.stderr
    lost = await command("db", "repair", "--base", base)
    assert lost.status == 1
    assert "damaged  head: the database" in lost.stdout
    assert "Move `db` and `consensus.wal` away" in lost.stdout
    paths = NodePaths(node.base)
    shutil.move(paths.database, tmp_path / "old-db")
    shutil.move(paths.wal, tmp_path / "old-wal")
    assert (await command("snapshot", "import", str(tmp_path / "snapshot"), "--base", base)).status == 0
    assert await run_to(node, snapshot["height"] + 2) > height
