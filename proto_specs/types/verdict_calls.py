"""The calls of verifiers: who verifies which model, and the two halves of a verdict."""

from __future__ import annotations

from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U32, U64, Fixed, variant
from proto_specs.types.common import Hash32


@variant(0x0405)
class RegisterVerifier:
    """An elected validator declares that it verifies this model."""

    model: Hash32


@variant(0x0420)
class UnregisterVerifier:
    """A verifier of this model is none any more, after a notice during which it is still drawn."""

    model: Hash32


@variant(0x0409)
class CommitVerdict:
    """First half of a verdict: the hash of verdict, own fingerprint and salt."""

    challenge: Hash32
    commitment: Hash32


@variant(0x040A)
class RevealVerdict:
    """Second half: what was committed. `distance_ppb` and `fingerprint` are zero when there was nothing to compare."""

    challenge: Hash32
    outcome: U8
    distance_ppb: U64
    token_mismatches: U32
    fingerprint: Annotated[bytes, Fixed(limits.FINGERPRINT_BYTES)]
    salt: Hash32
