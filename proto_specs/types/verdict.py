"""A verifier's commitment before the reveal, and the seed of the fingerprint, which no worker can predict."""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U32, U64, Fixed, record
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.types.common import AccountId, Hash32


@record
class VerdictPreimage:
    """The committed verdict, bound to challenge and verifier, so that a copied commitment is worthless."""

    challenge: Hash32
    verifier: AccountId
    outcome: U8
    distance_ppb: U64
    token_mismatches: U32
    fingerprint: Annotated[bytes, Fixed(limits.FINGERPRINT_BYTES)]
    salt: Hash32


def compute_commitment(preimage: VerdictPreimage) -> bytes:
    """The 32 bytes of `CommitVerdict.commitment`."""
    return hash_record(Tag.VERDICT, preimage)


def compute_challenge_id(request: bytes, stage: int) -> bytes:
    """The id of the challenge of a request's stage."""
    return hash_tagged(Tag.CHALLENGE, request + bytes([stage]))


def compute_fingerprint_seed(beacon: bytes, challenge: bytes) -> bytes:
    """32-byte seed of the projection: known only after the beacon that drew the challenge."""
    return hash_tagged(Tag.FINGERPRINT_SEED, beacon + challenge)


EMPTY_FINGERPRINT = bytes(limits.FINGERPRINT_BYTES)
