"""Inputs of the BFT core as write-ahead records. `StartHeight` has none: it follows from the stored head."""

from __future__ import annotations

from pathlib import Path

from consensus.bft.inputs import BlockBuilt, BlockValidated, Input, ProposalReceived, TimeoutElapsed, VoteReceived
from consensus.bft.timeouts import Step, Timeout
from node.replica.wal import WalDamaged, read_wal
from node.store.database import DatabaseDamaged
from proto_specs.codec import U8, U32, U64, decode_as, encode, record, variant
from proto_specs.errors import DecodeError
from proto_specs.types.chain import Block, Proposal, Vote
from proto_specs.types.common import Hash32


@variant(1)
class _Built:
    round: U32
    block: Block


@variant(2)
class _Proposed:
    proposal: Proposal


@variant(3)
class _Validated:
    block_hash: Hash32
    is_valid: bool


@variant(4)
class _Voted:
    vote: Vote


@variant(5)
class _Elapsed:
    step: U8
    round: U32


_Body = _Built | _Proposed | _Validated | _Voted | _Elapsed


@record
class _Record:
    height: U64
    body: _Body


def encode_input(height: int, event: Input) -> bytes:
    """The record of an input handled at `height`."""
    match event:
        case BlockBuilt():
            body: _Body = _Built(event.round, event.block)
        case ProposalReceived():
            body = _Proposed(event.proposal)
        case BlockValidated():
            body = _Validated(event.block_hash, event.is_valid)
        case VoteReceived():
            body = _Voted(event.vote)
        case TimeoutElapsed():
            body = _Elapsed(event.timeout.step, event.timeout.round)
        case _:
            raise AssertionError("a height's start is not logged")
    return encode(_Record(height, body))


def read_inputs(path: Path) -> list[tuple[int, Input]]:
    """Every (height, input) in a log file. Raises WalDamaged."""
    try:
        return [decode_input(payload) for payload in read_wal(path)]
    except DecodeError as error:
        raise WalDamaged(
            f"{path} holds a record this version cannot read ({error}): move the file away; the signer's own history "
            "still prevents double-signing"
        ) from error


def check_database_reaches(path: Path, head_height: int) -> None:
    """Raises DatabaseDamaged when the log is ahead of the database, whose last blocks are then lost."""
    heights = [height for height, _ in read_inputs(path)]
    if heights and max(heights) > head_height + 1:
        raise DatabaseDamaged(
            f"the database ends at block {head_height}, but the consensus log is at height {max(heights)}: the "
            "database lost blocks it had synced. Run `myelin db repair`; what does not come back has to be synced "
            "again from other nodes, into a new `db`: move `consensus.wal` away together with the old one. "
            "signer.json stays, and still prevents double-signing"
        )


def decode_input(payload: bytes) -> tuple[int, Input]:
    """(height, input) of a record. Raises DecodeError."""
    found = decode_as(_Record, payload)
    match found.body:
        case _Built(round_, block):
            return found.height, BlockBuilt(found.height, round_, block)
        case _Proposed(proposal):
            return found.height, ProposalReceived(proposal)
        case _Validated(block_hash, is_valid):
            return found.height, BlockValidated(block_hash, is_valid)
        case _Voted(vote):
            return found.height, VoteReceived(vote)
        case _Elapsed(step, round_):
            if step not in tuple(Step):
                raise DecodeError(f"unknown step {step}")
            return found.height, TimeoutElapsed(Timeout(Step(step), found.height, round_))
        case _:
            raise AssertionError("the union is covered")
