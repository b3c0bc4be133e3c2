"""One step of a light client: does this block follow from a trusted one? Pure; the rules are in light.md.

Three ways lead from a trusted block to another: a jump (a third of the trusted power signed the new block, and two
thirds of its own set), a handover (the next block's set is the one the trusted state elected), and the way back by
parent hashes. All signatures of a commit are checked, as everywhere (`consensus/bft/commit.py`).
"""

from __future__ import annotations

from dataclasses import dataclass

from consensus.bft.commit import verify_commit
from consensus.bft.errors import CommitError, ValidatorSetError
from consensus.bft.validators import PowerTable, validate_validator_set
from consensus.light.errors import LightBlockInvalid, NotEnoughTrust, TrustExpired
from consensus.runtime.staking.state import StakingParams, validators
from consensus.state.tree import StateProof, verify_proof
from proto_specs.codec import encode, record
from proto_specs.types.chain import Header, ValidatorSet, compute_block_hash, compute_validators_hash
from proto_specs.types.gossip import LightBlock

CLOCK_DRIFT_MS_DEFAULT = 10_000
"""How far a header may be ahead of our clock: twice what a block may be ahead of its validators' clocks."""

TRUSTING_NUMERATOR, TRUSTING_DENOMINATOR = 2, 3
"""Share of the time in which an offence can be punished; the rest of that time is for finding and reporting it."""


@dataclass(frozen=True, slots=True)
class LightParams:
    """Settings of a light client. Times in milliseconds."""

    genesis: bytes
    trusting_period_ms: int
    clock_drift_ms: int = CLOCK_DRIFT_MS_DEFAULT


@dataclass(frozen=True, slots=True)
class Trusted:
    """A block known to be the chain's. `validators` decided it; `successors_hash` names the next set where known.

    Genesis has no header: height 0, `block_hash` is the genesis hash, and its set is both the trusted and the next set.
    """

    height: int
    block_hash: bytes
    time_ms: int
    validators: ValidatorSet
    header: Header | None
    successors_hash: bytes | None


@record
class Handover:
    """The set that decides the block after the trusted one, with its proof under the trusted header's state root."""

    successors: ValidatorSet
    proof: StateProof


def compute_trusting_period_ms(staking: StakingParams, block_interval_ms: int) -> int:
    """How long a set may be trusted: two thirds of the time for which its offences are surely punished.

    Stake that leaves stays `unbonding_blocks`; evidence is taken for `evidence_blocks` or `evidence_ms`, whichever is
    longer. Blocks come no faster than their interval (light.md says what follows if they do).
    """
    evidence_ms = max(staking.evidence_blocks * block_interval_ms, staking.evidence_ms)
    punished_ms = min(staking.unbonding_blocks * block_interval_ms, evidence_ms)
    return punished_ms * TRUSTING_NUMERATOR // TRUSTING_DENOMINATOR


def make_trusted(block: LightBlock) -> Trusted:
    """Makes a verified light block the trusted one."""
    header = block.header
    return Trusted(header.height, compute_block_hash(header), header.time_ms, block.validators, header, None)


def make_trusted_genesis(genesis: bytes, time_ms: int, elected: ValidatorSet) -> Trusted:
    """The trusted start of a chain: exactly this set decides block 1."""
    return Trusted(0, genesis, time_ms, elected, None, compute_validators_hash(elected))


def validate_light_block(block: LightBlock, genesis: bytes) -> None:
    """Raises LightBlockInvalid unless more than two thirds of the header's own set decided it, for this chain.

    Does not check whether that set is the chain's.
    """
    header = block.header
    try:
        validate_validator_set(block.validators)
        if compute_validators_hash(block.validators) != header.validators_hash:
            raise LightBlockInvalid(f"the validators are not those that header {header.height} names")
        verify_commit(block.commit, block.validators, genesis, header.height, compute_block_hash(header))
    except (ValidatorSetError, CommitError) as error:
        raise LightBlockInvalid(f"block {header.height}: {error}") from error


def validate_fresh(trusted: Trusted, params: LightParams, now_ms: int) -> None:
    """Raises TrustExpired when the trusted block is too old to verify later blocks from it."""
    if trusted.time_ms + params.trusting_period_ms <= now_ms:
        raise TrustExpired(
            f"block {trusted.height} is {(now_ms - trusted.time_ms) // 1_000} s old and may be trusted for "
            f"{params.trusting_period_ms // 1_000} s: name a newer block, with its hash from who you trust"
        )


def verify_jump(trusted: Trusted, block: LightBlock, params: LightParams, now_ms: int) -> Trusted:
    """Verifies a later block, not only the next one, and returns it as trusted.

    Raises TrustExpired, LightBlockInvalid, and NotEnoughTrust when a block in between, or a handover, may help.
    """
    validate_fresh(trusted, params, now_ms)
    _check_order(trusted, block.header, params, now_ms)
    own_hash = block.header.validators_hash
    if block.header.height == trusted.height + 1 and trusted.successors_hash not in (None, own_hash):
        raise LightBlockInvalid(f"block {block.header.height} names another set than the one elected for it")
    validate_light_block(block, params.genesis)
    if own_hash not in (trusted.successors_hash, compute_validators_hash(trusted.validators)):
        _check_overlap(trusted, block)
    return make_trusted(block)


def verify_handover(trusted: Trusted, handover: Handover) -> Trusted:
    """`trusted` with the set of the next block, proven by the trusted state. Raises LightBlockInvalid."""
    header = trusted.header
    if header is None:
        raise LightBlockInvalid("genesis names its successors itself")
    if not verify_proof(header.state_root, validators.key, encode(handover.successors), handover.proof):
        raise LightBlockInvalid(f"the set after block {header.height} is not proven under its state root")
    successors_hash = compute_validators_hash(handover.successors)
    return Trusted(trusted.height, trusted.block_hash, trusted.time_ms, trusted.validators, header, successors_hash)


def verify_backwards(trusted: Header, parent: Header) -> None:
    """Raises LightBlockInvalid unless `parent` is the header that the trusted one names as its parent.

    The age of the trusted header does not matter here: hashes bind for ever.
    """
    if compute_block_hash(parent) != trusted.parent_hash or parent.height + 1 != trusted.height:
        raise LightBlockInvalid(f"header {parent.height} is not the parent of header {trusted.height}")


def _check_order(trusted: Trusted, header: Header, params: LightParams, now_ms: int) -> None:
    """Heights and times rise together: every block's time is after its parent's."""
    height, distance = header.height, header.height - trusted.height
    if distance <= 0:
        raise LightBlockInvalid(f"block {height} is not after the trusted block {trusted.height}")
    if distance == 1 and header.parent_hash != trusted.block_hash:
        raise LightBlockInvalid(f"block {height} has another parent than the trusted block")
    if header.time_ms < trusted.time_ms + distance:
        raise LightBlockInvalid(f"the time of block {height} is too early for its height")
    if header.time_ms > now_ms + params.clock_drift_ms:
        raise LightBlockInvalid(f"the time of block {height} is {header.time_ms - now_ms} ms ahead of the clock here")


def _check_overlap(trusted: Trusted, block: LightBlock) -> None:
    """Requires signatures of more than a third of the trusted power: it includes a correct validator of the chain."""
    table = PowerTable(trusted.validators)
    power = sum(table.get_power(one.validator) for one in block.commit.signatures)
    if not table.is_third(power):
        raise NotEnoughTrust(trusted.height, block.header.height, power, table.total)
