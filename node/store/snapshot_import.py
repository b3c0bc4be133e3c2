"""Makes a database from a snapshot. Everything is verified, up to the root in the header, before any of it is used.

The import trusts the chain spec, and either a block hash that the operator names, or that no two thirds of the stake at
genesis have colluded since. The rest follows: the header hashes to the trusted hash (or the genesis validators signed
it), and names the root of the state and the set that signed its commit.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.runtime.staking.state import read_priorities, read_validators
from consensus.runtime.system.state import beacon as state_beacon
from consensus.state.build import build_tree
from genesis.builder import Genesis
from node.machine.files import sync_directory
from node.store.chain_store import make_meta, make_validators_row
from node.store.columns import Column
from node.store.database import Database
from node.store.leaf_sorter import LeafSorter
from node.store.records import Head, encode_height
from node.store.snapshot_format import Progress, SnapshotError, SnapshotManifest, load_chunk, load_manifest
from node.store.views import StateView
from proto_specs.codec import encode
from proto_specs.types.chain import compute_block_hash, compute_validators_hash

_BATCH_PAGES = 2_000
PARTIAL_SUFFIX = ".partial"
SORTING_SUFFIX = ".sorting"


def import_snapshot(
    source: Path, database: Path, genesis: Genesis, progress: Progress, trusted_hash: bytes | None = None
) -> Head:
    """Fill the missing directory `database` from the snapshot in `source`; returns the head to continue from.

    Interrupted at any point, it leaves no `database`. Raises SnapshotError, DatabaseError.
    """
    if database.exists():
        raise SnapshotError(
            f"{database} exists: a snapshot is imported into an empty directory only. Name another --base, or move the "
            "old database and consensus.wal away"
        )
    manifest = load_manifest(source)
    block_hash = verify_manifest(manifest, genesis, trusted_hash)
    partial, sorting = (database.with_name(database.name + suffix) for suffix in (PARTIAL_SUFFIX, SORTING_SUFFIX))
    shutil.rmtree(partial, ignore_errors=True)
    target = Database(partial)
    try:
        with LeafSorter(sorting) as sorter:
            for items in _iterate_chunks(source, manifest, progress):
                target.write([(Column.STATE.value + key, value) for key, value in items])
                sorter.add(items)
            progress("building the tree", 0, 0)
            root = _write_tree(sorter, target)
        if root != manifest.header.state_root:
            raise SnapshotError(
                f"the items have the root {root.hex()}, the header of block {manifest.header.height} names "
                f"{manifest.header.state_root.hex()}: the snapshot is false. Do not trust where it comes from"
            )
        head = _make_head(manifest, block_hash, StateView(target))
        target.write(_make_tail(manifest, head))
    except BaseException:
        target.close()
        shutil.rmtree(partial, ignore_errors=True)
        raise
    target.close()
    partial.rename(database)
    sync_directory(database.parent)
    return head


def verify_manifest(manifest: SnapshotManifest, genesis: Genesis, trusted_hash: bytes | None) -> bytes:
    """The hash of the snapshot's block, once it is proven to be of this chain. Raises SnapshotError."""
    header, height = manifest.header, manifest.header.height
    block_hash = compute_block_hash(header)
    if manifest.genesis != genesis.hash:
        raise SnapshotError(f"the snapshot is of the chain 0x{manifest.genesis.hex()}, not 0x{genesis.hash.hex()}")
    if trusted_hash is not None and trusted_hash != block_hash:
        raise SnapshotError(f"the snapshot's block {height} is 0x{block_hash.hex()}, not the one you trust")
    if compute_validators_hash(manifest.deciders) != header.validators_hash:
        raise SnapshotError("the validators of the snapshot are not those its header names")
    try:
        verify_commit(manifest.commit, manifest.deciders, genesis.hash, height, block_hash)
    except CommitError as error:
        raise SnapshotError(f"the commit of block {height} does not hold: {error}") from error
    if trusted_hash is None:
        try:
            verify_commit(manifest.commit, genesis.validators, genesis.hash, height, block_hash)
        except CommitError as error:
            raise SnapshotError(
                f"the validators have changed since genesis ({error}), so genesis alone does not show that block "
                f"{height} is the chain's: get its hash from a node you trust and name it with --trust-hash"
            ) from error
    return block_hash


def _iterate_chunks(
    source: Path, manifest: SnapshotManifest, progress: Progress
) -> Iterator[list[tuple[bytes, bytes]]]:
    """The items of each chunk, after checks of hashes, order and number."""
    count, last = 0, None
    for index, expected in enumerate(manifest.chunks):
        items = [(one.key, one.value) for one in load_chunk(source, index, expected).items]
        for key, _ in items:
            if last is not None and key <= last:
                raise SnapshotError(f"chunk {index}: key {key.hex()} does not rise above {last.hex()}")
            last = key
        count += len(items)
        yield items
        progress("items read", count, manifest.items)
    if count != manifest.items:
        raise SnapshotError(f"the snapshot has {count} items, its manifest says {manifest.items}")


def _write_tree(sorter: LeafSorter, target: Database) -> bytes:
    """The root of the sorted leaves, with its pages written."""
    held: list[tuple[bytes, bytes | None]] = []

    def write_page(path: bytes, page: bytes) -> None:
        held.append((Column.TREE.value + path, page))
        if len(held) >= _BATCH_PAGES:
            target.write(held)
            held.clear()

    root = build_tree(sorter.iterate(), write_page)
    target.write(held)
    return root


def _make_head(manifest: SnapshotManifest, block_hash: bytes, state: StateView) -> Head:
    """The head, from the header and the verified state. Raises SnapshotError."""
    validators = read_validators(state)
    if manifest.priorities != read_priorities(state):
        raise SnapshotError("the proposer priorities are not those of the state")
    return Head(
        height=manifest.header.height,
        block_hash=block_hash,
        time_ms=manifest.header.time_ms,
        state_root=manifest.header.state_root,
        beacon=state_beacon.read(state),
        validators=validators,
        deciders=manifest.deciders,
        priorities=manifest.priorities,
    )


def _make_tail(manifest: SnapshotManifest, head: Head) -> list[tuple[bytes, bytes | None]]:
    """Writes what turns items and pages into a database, last and in one batch."""
    height = encode_height(head.height)
    return [
        (Column.HEADER.value + height, encode(manifest.header)),
        (Column.COMMIT.value + height, encode(manifest.commit)),
        (Column.HEIGHT.value + head.block_hash, height),
        *(make_validators_row(one) for one in (head.deciders, head.validators)),
        *make_meta(head, manifest.genesis, base=head.height),
    ]
