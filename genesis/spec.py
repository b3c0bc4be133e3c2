"""A chain spec: everything two nodes must agree on before block 1, its hash, and its JSON form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from consensus.runtime.params.errors import UnsoundParams
from consensus.runtime.params.protocol import RuntimeParams
from consensus.runtime.params.relations import validate_params
from genesis.errors import SpecError
from genesis.jsonform import from_json
from proto_specs.codec import U16, U32, U64, Max, record
from proto_specs.hashing import Tag, hash_record
from proto_specs.jsonform import to_json
from proto_specs.limits import CHAIN_NAME_BYTES_MAX, VALIDATORS_MAX
from proto_specs.types.common import AccountId, Balance, PublicKey

GENESIS_ACCOUNTS_MAX = 65_536


@record
class GenesisAccount:
    """An account with its whole balance, its stake included."""

    account: AccountId
    balance: Balance


@record
class GenesisValidator:
    """A member of the first elected set; the operator's balance provides `stake`."""

    operator: AccountId
    consensus_key: PublicKey
    stake: Balance


@record
class ChainSpec:
    """A chain. `block_interval_ms` is the interval that proposers keep; `genesis_time_ms` is Unix time."""

    name: Annotated[str, Max(CHAIN_NAME_BYTES_MAX)]
    ss58_prefix: U16
    block_interval_ms: U32
    genesis_time_ms: U64
    accounts: Annotated[tuple[GenesisAccount, ...], Max(GENESIS_ACCOUNTS_MAX)]
    validators: Annotated[tuple[GenesisValidator, ...], Max(VALIDATORS_MAX)]
    params: RuntimeParams


def compute_genesis_hash(spec: ChainSpec) -> bytes:
    """The hash that identifies the chain in every signature; also the parent hash of block 1."""
    return hash_record(Tag.GENESIS, spec)


def validate_spec(spec: ChainSpec) -> None:
    """Raises SpecError naming the first invalid field."""
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
    try:
        validate_params(spec.params)
    except UnsoundParams as error:
        raise SpecError(error.field, error.text) from error
    _require(len(keys) <= spec.params.staking.validators_max, "validators", "are more than staking.validators_max")


def load_spec(path: Path) -> ChainSpec:
    """Read and validate a spec from JSON. Raises SpecError naming the field, OSError when there is no such file."""
    if path.exists() and not path.is_file():
        raise SpecError("", f"is no file: name a chain spec (JSON) instead of {path}")
    try:
        return parse_spec(path.read_text("utf-8"))
    except UnicodeDecodeError as error:
        raise SpecError("", f"is no text ({error}): correct {path}") from error
    except SpecError as error:
        raise SpecError(error.field, f"{error.text}: correct {path}") from error


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


def _require(holds: bool, field: str, text: str) -> None:
    if not holds:
        raise SpecError(field, text)
