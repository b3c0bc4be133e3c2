"""A chain spec: everything two nodes must agree on before block 1, its hash, and its JSON form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from consensus.runtime.balances.state import BalancesParams
from consensus.runtime.inference.state import InferenceParams
from consensus.runtime.multisig.state import MultisigParams
from consensus.runtime.params.state import GovernanceParams
from consensus.runtime.staking.state import StakingParams
from consensus.runtime.system.state import SystemParams
from genesis.errors import SpecError
from genesis.jsonform import from_json
from proto_specs.codec import U16, U32, U64, Max, record
from proto_specs.hashing import Tag, hash_record
from proto_specs.jsonform import to_json
from proto_specs.limits import BLOCK_BYTES_MAX, CHAIN_NAME_BYTES_MAX, COMMITTEE_MAX, VALIDATORS_MAX
from proto_specs.types.common import AccountId, Balance, PublicKey

GENESIS_ACCOUNTS_MAX = 65_536
BALANCE_MAX = (1 << 64) - 1


@record
class GenesisAccount:
    """An account and all it owns, what it stakes included."""

    account: AccountId
    balance: Balance


@record
class GenesisValidator:
    """A member of the first elected set; `stake` is taken from the operator's balance."""

    operator: AccountId
    consensus_key: PublicKey
    stake: Balance


@record
class RuntimeParams:
    """The parameters of every module."""

    system: SystemParams
    balances: BalancesParams
    staking: StakingParams
    inference: InferenceParams
    governance: GovernanceParams
    multisig: MultisigParams


@record
class ChainSpec:
    """A chain. `block_interval_ms` is the pace proposers keep; `genesis_time_ms` is Unix time."""

    name: Annotated[str, Max(CHAIN_NAME_BYTES_MAX)]
    ss58_prefix: U16
    block_interval_ms: U32
    genesis_time_ms: U64
    accounts: Annotated[tuple[GenesisAccount, ...], Max(GENESIS_ACCOUNTS_MAX)]
    validators: Annotated[tuple[GenesisValidator, ...], Max(VALIDATORS_MAX)]
    params: RuntimeParams


def compute_genesis_hash(spec: ChainSpec) -> bytes:
    """The chain's name under every signature; also the parent hash of block 1."""
    return hash_record(Tag.GENESIS, spec)


def validate_spec(spec: ChainSpec) -> None:
    """Raises SpecError naming the field that makes this no chain."""
    _require(bool(spec.name), "name", "is empty")
    _require(spec.ss58_prefix < 1 << 14, "ss58_prefix", "has more than 14 bits")
    _require(spec.block_interval_ms > 0, "block_interval_ms", "is zero")
    accounts = [one.account for one in spec.accounts]
    _require(accounts == sorted(set(accounts)), "accounts", "have to be in ascending order, each once")
    balances = {one.account: one.balance for one in spec.accounts}
    least = spec.params.balances.existential_deposit
    _require(all(one.balance >= max(least, 1) for one in spec.accounts), "accounts", f"own at least {least} nmyl")
    _require(sum(balances.values()) <= spec.params.staking.issuance_max, "accounts", "own more than issuance_max")
    keys = [one.consensus_key for one in spec.validators]
    _require(bool(keys), "validators", "are none")
    _require(keys == sorted(set(keys)), "validators", "have to be in ascending order of their keys, each once")
    operators = {one.operator for one in spec.validators}
    _require(len(operators) == len(keys), "validators", "share an operator")
    for one in spec.validators:
        _require(one.stake >= max(spec.params.staking.validator_stake_min, 1), "validators", "stake below the minimum")
        _require(balances.get(one.operator, 0) >= one.stake, "validators", "stake more than they own")
    _validate_params(spec)


def load_spec(path: Path) -> ChainSpec:
    """Read and validate a spec from JSON. Raises SpecError naming the field, OSError when there is no such file."""
    return parse_spec(path.read_text("utf-8"))


def parse_spec(text: str) -> ChainSpec:
    """A spec from JSON text. Raises SpecError."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise SpecError("", f"is no JSON: {error}") from error
    spec = from_json(ChainSpec, raw)
    validate_spec(spec)
    return spec


def save_spec(spec: ChainSpec, path: Path) -> None:
    """Write a spec as JSON that `load_spec` reads back to the same hash."""
    path.write_text(format_spec(spec), "utf-8")


def format_spec(spec: ChainSpec) -> str:
    """The JSON text of a spec: addresses in the chain's own SS58 form, keys in 0x hex."""
    return json.dumps(to_json(spec, spec.ss58_prefix), indent=2) + "\n"


def _validate_params(spec: ChainSpec) -> None:
    system, staking, inference = spec.params.system, spec.params.staking, spec.params.inference
    _require(0 < system.block_bytes_max <= BLOCK_BYTES_MAX, "system.block_bytes_max", f"is not 1..{BLOCK_BYTES_MAX}")
    target = system.block_weight_max * system.fullness_target_permille // 1_000
    _require(0 < target <= system.block_weight_max, "system.fullness_target_permille", "leaves no target")
    _require(system.weight_price_change_denominator > 0, "system.weight_price_change_denominator", "is zero")
    ordered = 0 < system.weight_price_min <= system.weight_price_max
    _require(ordered, "system.weight_price_min", "is zero or above weight_price_max")
    _require(staking.epoch_blocks > 0, "staking.epoch_blocks", "is zero")
    _require(0 < staking.validators_max <= VALIDATORS_MAX, "staking.validators_max", f"is not 1..{VALIDATORS_MAX}")
    _require(len(spec.validators) <= staking.validators_max, "validators", "are more than staking.validators_max")
    _require(staking.emission_halving_epochs > 0, "staking.emission_halving_epochs", "is zero")
    _require(staking.issuance_max <= BALANCE_MAX, "staking.issuance_max", "has more than 64 bits")
    _require(staking.double_vote_slash_permille <= 1_000, "staking.double_vote_slash_permille", "is above 1000")
    _validate_staking(staking)
    _require(spec.params.governance.voting_blocks > 0, "governance.voting_blocks", "is zero")
    approval = spec.params.governance.approval_permille
    _require(500 <= approval < 1_000, "governance.approval_permille", "is not 500..999")
    evidence = staking.evidence_blocks < staking.unbonding_blocks
    _require(evidence, "staking.unbonding_blocks", "has to be longer than evidence_blocks")
    _validate_inference(inference)


def _validate_staking(staking: StakingParams) -> None:
    emission = staking.worker_emission_permille + staking.audit_emission_permille
    _require(emission <= 1_000, "staking.worker_emission_permille", "with audit_emission_permille is above 1000")
    for name in ("commission_permille_max", "commission_step_permille", "downtime_permille", "downtime_slash_permille"):
        _require(getattr(staking, name) <= 1_000, f"staking.{name}", "is above 1000")
    _require(staking.delegation_min > 0, "staking.delegation_min", "is zero")


def _validate_inference(params: InferenceParams) -> None:
    positive = (
        "worker_bond_min",
        "session_notice_blocks",
        "session_expiry_blocks",
        "detection_permille",
        "exposure_factor",
        "commit_blocks",
        "reveal_blocks",
        "fails_min",
        "retention_blocks",
    )
    for name in positive:
        _require(getattr(params, name) > 0, f"inference.{name}", "is zero")
    _require(params.base_challenge_ppm <= 1_000_000, "inference.base_challenge_ppm", "is above 1000000")
    for name in (
        "detection_permille",
        "fail_slash_permille",
        "bounty_permille",
        "equivocation_slash_permille",
        "audit_score_step_permille",
    ):
        _require(getattr(params, name) <= 1_000, f"inference.{name}", "is above 1000")
    shares = params.burn_permille + params.verification_permille
    _require(shares <= 1_000, "inference.burn_permille", "with verification_permille is above 1000")
    _require(0 < params.committee_size <= COMMITTEE_MAX, "inference.committee_size", f"is not 1..{COMMITTEE_MAX}")
    _require(params.fails_min <= params.committee_size, "inference.fails_min", "is above committee_size")
    window = 2 + params.commit_blocks + params.reveal_blocks
    _require(params.worker_unbonding_blocks > window, "inference.worker_unbonding_blocks", f"has to be above {window}")


def _require(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise SpecError(field, text)
