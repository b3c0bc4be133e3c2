"""A node with timed stages: `python -m benchmarks.chain.stages OUT.json CLI-ARGUMENTS...` runs the node's own program.

At SIGUSR1 it writes the CPU time that each stage took so far. A stage's time excludes the stages inside it. Threads are
timed separately and summed; waiting for disk, network or other processes is no CPU time. The clocks cost a few percent,
so rates are taken from runs without them.
"""

from __future__ import annotations

import functools
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import node.full.service
from consensus.runtime import executive
from consensus.state import tree
from node.chain import blocks
from node.chain.mempool import Mempool
from node.chain.pool import TransactionPool
from node.cli import main as cli
from node.local_api import server
from node.local_api.methods import author as author_methods
from node.replica.wal import Wal
from node.store import chain_store, history
from node.store.database import Database

assert node.full.service, "imported for what it imports: every place that names a timed function"

FUNCTIONS: tuple[tuple[str, Callable[..., Any]], ...] = (
    ("rpc_frames", server._parse_frame),
    ("rpc_frames", server._encode),
    ("transaction_decoding", author_methods._parse_transaction),
    ("block_proposing", blocks.build_block),
    ("block_checking", blocks.validate_block),
    ("block_finalizing", blocks.finalize_block),
    ("execution", executive.propose_block),
    ("execution", executive.execute_block),
    ("state_root", tree.update),
    ("history", history.make_history),
    ("pruning", history.prune),
    ("encoding_for_disk", chain_store._make_batch),
)
"""Module-level functions, timed in every module that imports them."""

METHODS: tuple[tuple[str, type, str], ...] = (
    ("admission_checks", TransactionPool, "prepare"),
    ("admission", TransactionPool, "admit"),
    ("mempool", Mempool, "add"),
    ("mempool", TransactionPool, "select"),
    ("mempool_following", TransactionPool, "advance"),
    ("leveldb_write", Database, "write"),
    ("consensus_log", Wal, "append"),
    ("consensus_log", Wal, "sync"),
)


class Stages:
    """CPU nanoseconds and entries of each stage."""

    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self.entries: dict[str, int] = {}
        self._lock = threading.Lock()
        self._here = threading.local()

    def wrap(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed; an iterator that it returns is timed during its use."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            self._enter()
            try:
                result = function(*args, **kwargs)
            finally:
                self._leave(stage, 1)
            return self._follow(stage, result) if isinstance(result, Iterator) else result

        return timed

    def _follow(self, stage: str, items: Iterator[Any]) -> Iterator[Any]:
        while True:
            self._enter()
            try:
                item = next(items)
            except StopIteration:
                return
            finally:
                self._leave(stage, 0)
            yield item

    def _enter(self) -> None:
        """Note the start, and a place for the time of the stages inside."""
        stack: list[list[int]] | None = getattr(self._here, "stack", None)
        if stack is None:
            stack = self._here.stack = []
        stack.append([time.thread_time_ns(), 0])

    def _leave(self, stage: str, entries: int) -> None:
        stack = self._here.stack
        started, inside = stack.pop()
        taken = time.thread_time_ns() - started
        if stack:
            stack[-1][1] += taken
        with self._lock:
            self.ns[stage] = self.ns.get(stage, 0) + taken - inside
            self.entries[stage] = self.entries.get(stage, 0) + entries


def install(stages: Stages) -> None:
    """Replace the functions by their timed versions."""
    modules = [module for name, module in sys.modules.items() if name.partition(".")[0] in ("node", "consensus")]
    for stage, function in FUNCTIONS:
        timed = stages.wrap(stage, function)
        for module in modules:
            for name in [name for name, value in vars(module).items() if value is function]:
                setattr(module, name, timed)
    for stage, owner, name in METHODS:
        setattr(owner, name, stages.wrap(stage, getattr(owner, name)))


def main() -> None:
    """Run the node until it ends."""
    out = Path(sys.argv[1])
    sys.argv = ["myelin", *sys.argv[2:]]
    stages = Stages()
    install(stages)

    def write(*_: Any) -> None:
        found = {name: {"cpu_s": round(ns / 1e9, 3), "entries": stages.entries[name]} for name, ns in stages.ns.items()}
        part = out.with_suffix(".part")
        part.write_text(json.dumps(found), "utf-8")
        part.rename(out)

    signal.signal(signal.SIGUSR1, write)
    cli.main()


if __name__ == "__main__":
    main()
