"""Writes the state after one block as a snapshot. The node may run meanwhile: a checkpoint of its database is read."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from genesis.builder import Genesis
from node.store.chain_store import ChainStore
from node.store.checkpoint import checkpoint
from node.store.retention import Retention
from node.store.snapshot_format import (
    SNAPSHOT_FORMAT,
    Progress,
    SnapshotError,
    SnapshotManifest,
    get_chunk_path,
    hash_chunk,
    make_chunks,
    save_manifest,
)
from node.store.views import StateView
from proto_specs.types.chain import Commit


def export_snapshot(
    database: Path, genesis: Genesis, target: Path, progress: Progress, height: int | None = None
) -> SnapshotManifest:
    """Write the state after block `height` (default: the head) into the new directory `target`.

    An unfinished export is in `target` + `.partial`. Raises SnapshotError, DatabaseError, StateUnavailable.
    """
    if target.exists():
        raise SnapshotError(f"{target} exists: name a new directory")
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with checkpoint(database) as copy:
        store = ChainStore(copy, genesis, Retention(state_blocks=None))
        try:
            at = store.get_head().height if height is None else height
            partial.mkdir(parents=True)
            manifest = _write(store, store.view_at(at), partial, progress)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
        finally:
            store.close()
    partial.rename(target)
    return manifest


def _write(store: ChainStore, view: StateView, directory: Path, progress: Progress) -> SnapshotManifest:
    head = view.get_head()
    header, commit = store.get_header(head.height), _find_commit(store, head.height)
    if header is None or commit is None:
        raise SnapshotError("the chain has no block yet: its state follows from the chain spec")
    hashes: list[bytes] = []
    count = 0
    for encoded, items in make_chunks(view.iterate(b"")):
        with get_chunk_path(directory, len(hashes)).open("xb") as file:
            file.write(encoded)
            file.flush()
            os.fsync(file.fileno())
        hashes.append(hash_chunk(encoded))
        count += items
        progress("items written", count, 0)
    manifest = SnapshotManifest(
        format=SNAPSHOT_FORMAT,
        genesis=store.genesis_hash,
        header=header,
        commit=commit,
        deciders=head.deciders,
        priorities=head.priorities,
        items=count,
        chunks=tuple(hashes),
    )
    save_manifest(directory, manifest)
    return manifest


def _find_commit(store: ChainStore, height: int) -> Commit | None:
    """The commit in the next block, if there is one: all nodes have the same, so snapshots have the same bytes."""
    child = store.get_block(height + 1)
    return store.get_commit(height) if child is None else child.last_commit
