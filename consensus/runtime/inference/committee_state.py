"""State about who judges and who withholds: seats, standings of verifiers, conduct of operators, deposits."""

from __future__ import annotations

from consensus.state.reader import StateReader
from consensus.state.storage import StorageMap, StorageSet
from proto_specs.codec import U8, U16, U32, U64, record
from proto_specs.types.common import AccountId, Balance, Hash32


@record
class WithheldRecord:
    """An operator that withheld: `strikes` since its last jail, `terms` that lengthen the next, value `served` since.

    Every `probation_value` served takes the strikes away, or else one term. Without either there is no record.
    """

    strikes: U16
    terms: U8
    served: Balance


@record
class Standing:
    """A verifier: `points` of misses not yet made good, both counts in all, and what it was charged in `epoch`."""

    points: U16
    misses: U32
    carried: U32
    epoch: U64
    charged_permille: U16


@record
class PostponedDraw:
    """A stage drawn at `place` whose committee waits for free seats. `tries` draws of the committee have failed."""

    request: Hash32
    stage: U8
    place: U64
    tries: U16


@record
class VerificationDeposit:
    """What the settler of a request deposited for each of its `stages` that are still open."""

    settler: AccountId
    per_stage: Balance
    stages: U8


CLEAN = WithheldRecord(0, 0, 0)
UNTRIED = Standing(0, 0, 0, 0, 0)

conducts: StorageMap[WithheldRecord] = StorageMap("inference.conduct", (AccountId,), WithheldRecord)
standings: StorageMap[Standing] = StorageMap("inference.standing", (AccountId,), Standing)
postponed: StorageMap[PostponedDraw] = StorageMap("inference.postponed", (Hash32,), PostponedDraw)
round_delays: StorageMap[int] = StorageMap("inference.round_delay", (Hash32,), U16)
deposits: StorageMap[VerificationDeposit] = StorageMap("inference.verification_deposit", (Hash32,), VerificationDeposit)
seat_counts: StorageMap[int] = StorageMap("inference.seat_count", (AccountId,), U32)
full_benches = StorageSet("inference.full_bench", (AccountId,))
"""Verifiers with as many open seats as there may be: as a rule nobody, so that a draw looks up one key for all."""
leaving_verifiers: StorageMap[int] = StorageMap("inference.leaving_verifier", (Hash32, AccountId), U64)
"""By model and verifier, the block from which it is drawn no more."""


def read_conduct(state: StateReader, operator: bytes) -> WithheldRecord:
    """An operator's record; a clean one when it has none."""
    return conducts.read(state, operator) or CLEAN


def read_standing(state: StateReader, verifier: bytes) -> Standing:
    """A verifier's record; an empty one when it has none."""
    return standings.read(state, verifier) or UNTRIED
