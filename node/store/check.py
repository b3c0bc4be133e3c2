"""Verifies a whole database: every link of the chain, every item against the tree, every kept state against its root.

It reads the database and writes only a scratch directory beside it. Problems are listed, never raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError
from consensus.runtime.receipts import compute_receipts_root
from consensus.state.build import build_tree
from consensus.state.tree import verify_proof
from genesis.builder import Genesis
from node.store.chain_store import ChainStore
from node.store.columns import Column
from node.store.database import DatabaseDamaged, DatabaseError
from node.store.leaf_sorter import LeafSorter
from node.store.records import BlockReceipts, encode_height
from node.store.retention import Retention
from node.store.snapshot_format import Progress
from node.store.subject_index import make_rows, read_key, read_places
from proto_specs.errors import DecodeError
from proto_specs.types.chain import (
    Block,
    Header,
    ValidatorSet,
    compute_block_hash,
    compute_body_root,
    compute_commit_hash,
    compute_extrinsic_hash,
    compute_validators_hash,
)

PROBLEMS_MAX = 20
PROGRESS_EVERY = 100
CHECKING_SUFFIX = ".checking"
_DAMAGE = (DatabaseError, DecodeError, AssertionError, ValueError, IndexError)
"""The errors that reading damaged pages and records may raise."""


@dataclass
class Report:
    """What was checked, and the first 20 problems, each with its part.

    `commits` were verified: signatures of more than two thirds of their height's validators.
    """

    height: int = 0
    blocks: int = 0
    bodies: int = 0
    commits: int = 0
    items: int = 0
    pages: int = 0
    states: int = 0
    changes: int = 0
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, part: str, problem: str) -> None:
        """Note a problem."""
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append((part, problem))

    @property
    def parts(self) -> set[str]:
        """The parts with problems."""
        return {part for part, _ in self.problems}


def check_database(database: Path, genesis: Genesis, progress: Progress) -> Report:
    """Check everything, from the chain to the oldest state. Raises DatabaseLocked while a node runs."""
    report = Report()
    if not database.exists():
        raise DatabaseError(f"there is no database at {database}")
    try:
        store = ChainStore(database, genesis, Retention(state_blocks=None))
    except DatabaseDamaged as error:
        report.add("head", str(error))
        return report
    try:
        report.height = store.get_head().height
        _run("chain", report, lambda: _check_chain(store, report, progress))
        sorting = database.with_name(database.name + CHECKING_SUFFIX)
        _run("state", report, lambda: _check_state(store, sorting, report, progress))
        _run("history", report, lambda: _check_history(store, report, progress))
    finally:
        store.close()
    return report


def _run(part: str, report: Report, check: Callable[[], None]) -> None:
    try:
        check()
    except _DAMAGE as error:
        report.add(part, f"{type(error).__name__}: {error}")


def _check_chain(store: ChainStore, report: Report, progress: Progress) -> None:
    head = store.get_head()
    verified: dict[bytes, ValidatorSet] = {}
    _load_validators(store, compute_validators_hash(head.validators), "the next block", report)
    parent: Header | None = None
    first = max(1, store.base)
    for height in range(first, head.height + 1):
        header = store.get_header(height)
        if header is None or header.height != height:
            report.add("chain", f"the header of block {height} is missing")
            parent = None
            continue
        _check_links(store, header, parent, report)
        _check_commit(store, header, verified, report)
        if height >= store.oldest_body:
            _check_body(store, header, report)
        report.blocks += 1
        parent = header
        if not height % PROGRESS_EVERY:
            progress("blocks checked", height, head.height)
    if head.height >= first and (parent is None or compute_block_hash(parent) != head.block_hash):
        report.add("chain", "the last block is not that of the head")


def _check_links(store: ChainStore, header: Header, parent: Header | None, report: Report) -> None:
    height = header.height
    if parent is not None and header.parent_hash != compute_block_hash(parent):
        report.add("chain", f"block {height} does not follow the block {height - 1} that is stored")
    if height == 1 and header.parent_hash != store.genesis_hash:
        report.add("chain", "block 1 does not follow the genesis")
    if store.find_height(compute_block_hash(header)) != height:
        report.add("chain", f"block {height} is not found by its hash")


def _check_commit(store: ChainStore, header: Header, verified: dict[bytes, ValidatorSet], report: Report) -> None:
    """Signatures of more than two thirds of the power of the set that the header names.

    They need not be those that the next header names: nodes keep what they saw first (docs/decisions/0010).
    """
    height, expected = header.height, header.validators_hash
    commit, validators = store.get_commit(height), verified.get(expected)
    if commit is None:
        report.add("chain", f"the commit of block {height} is missing")
        return
    if validators is None:
        validators = _load_validators(store, expected, f"block {height}", report)
        if validators is None:
            return
        verified[expected] = validators
    try:
        verify_commit(commit, validators, store.genesis_hash, height, compute_block_hash(header))
        report.commits += 1
    except CommitError as error:
        report.add("chain", f"the commit of block {height}: {error}")


def _load_validators(store: ChainStore, expected: bytes, of: str, report: Report) -> ValidatorSet | None:
    """The set stored under a hash; problems with it are noted."""
    found = store.get_validators(expected)
    if found is None:
        report.add("chain", f"the validators of {of} are missing")
    elif compute_validators_hash(found) != expected:
        report.add("chain", f"the validators kept for {of} are not those its header names")
    else:
        return found
    return None


def _check_body(store: ChainStore, header: Header, report: Report) -> None:
    height = header.height
    block, left = store.get_block(height), store.get_receipts(height)
    if block is None or left is None:
        report.add("chain", f"the body or the receipts of block {height} are missing")
        return
    if block.header != header or header.body_root != compute_body_root(block.evidence, block.transactions):
        report.add("chain", f"the body of block {height} is not the one its header names")
    if header.last_commit_hash != compute_commit_hash(block.last_commit):
        report.add("chain", f"the commit inside block {height} is not the one its header names")
    if header.receipts_root != compute_receipts_root(left.receipts, left.events):
        report.add("chain", f"the receipts of block {height} are not those its header names")
    for index, transaction in enumerate(block.transactions):
        location = store.find_extrinsic(compute_extrinsic_hash(transaction))
        if location is None or (location.height, location.index) != (height, index):
            report.add("chain", f"transaction {index} of block {height} is not found by its hash")
    if store.index.start is not None and height >= store.index.start:
        _check_index(store, block, left, report)
    report.bodies += 1


def _check_index(store: ChainStore, block: Block, left: BlockReceipts, report: Report) -> None:
    height = block.header.height
    for key, row in make_rows(block, left):
        subject, _ = read_key(key)
        found = next(store.index.list_places(subject, height + 1, store.oldest_body), None)
        if found != (height, read_places(row)):
            report.add("chain", f"the index does not say where block {height} names 0x{subject.hex()}")


def _check_state(store: ChainStore, sorting: Path, report: Report, progress: Progress) -> None:
    """Rebuilds the tree from the items and compares it with the stored one, page by page, and with the head's root."""

    def compare(path: bytes, page: bytes) -> None:
        report.pages += 1
        if store.read_page(path) != page:
            report.add("state", f"page {path.decode() or 'of the root'} is not that of the items below it")

    with LeafSorter(sorting) as sorter:
        for key, value in store.iterate(b""):
            sorter.add([(key, value)])
            report.items += 1
            if not report.items % 10_000:
                progress("items read", report.items, 0)
        root = build_tree(sorter.iterate(), compare)
    if root != store.get_head().state_root:
        report.add("state", "the items of the state are not those the last header commits to")
    stored = store.count_rows(Column.TREE)
    if stored != report.pages:
        report.add("state", f"{stored} pages are stored, the items make {report.pages}")


def _check_history(store: ChainStore, report: Report, progress: Progress) -> None:
    """Checks that every row belongs to a block that lists it, and that each old value is proven under its old root."""
    newest, oldest = store.get_head().height, store.oldest_state
    listed = {Column.STATE_WAS: 0, Column.PAGE_WAS: 0, Column.UNDO: newest - oldest}
    for height in range(newest, oldest, -1):
        keys, paths = store.list_changes(height)
        listed[Column.STATE_WAS] += len(keys)
        listed[Column.PAGE_WAS] += len(paths)
        view, header = store.view_at(height - 1), store.get_header(height - 1)
        root = view.get_head().state_root
        if header is not None and root != header.state_root:
            report.add("history", f"the state root kept for block {height - 1} is not that of its header")
        for key in keys:
            report.changes += 1
            if not store.has_row(Column.STATE_WAS, key + encode_height(height)):
                report.add("history", f"what {key.hex()} was before block {height} is missing")
            elif not verify_proof(root, key, view.get(key), view.prove(key)):
                report.add("history", f"what {key.hex()} was before block {height} does not fit the root of then")
        report.states += 1
        progress("states checked", newest - height + 1, newest - oldest)
    for column, expected in listed.items():
        found = store.count_rows(column)
        if found != expected:
            report.add("history", f"{found} rows of {column.name} where blocks list {expected}")
