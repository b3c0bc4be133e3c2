"""All parameters of all modules as one record, by name `module.field`: reading, changing, writing. Knows no votes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from consensus.runtime.balances import state as balances
from consensus.runtime.balances.state import BalancesParams
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.multisig import state as multisig
from consensus.runtime.multisig.state import MultisigParams
from consensus.runtime.params import state as governance
from consensus.runtime.params.state import GovernanceParams
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.state import StakingParams
from consensus.runtime.system import state as system
from consensus.runtime.system.state import SystemParams
from consensus.state.reader import StateReader
from consensus.state.storage import StateWriter, StorageValue
from proto_specs.codec import record
from proto_specs.types.calls import ParamChange


@record
class RuntimeParams:
    """The parameters of every module, under the names of the chain spec."""

    system: SystemParams
    balances: BalancesParams
    staking: StakingParams
    inference: InferenceParams
    governance: GovernanceParams
    multisig: MultisigParams


_PLACES: dict[str, StorageValue[Any]] = {
    "system": system.params,
    "balances": balances.params,
    "staking": staking.params,
    "inference": inference.params,
    "governance": governance.params,
    "multisig": multisig.params,
}


def read_runtime_params(state: StateReader) -> RuntimeParams:
    """The parameters in force in the block that executes, or in the next one when none does."""
    return RuntimeParams(**{name: place.read(state) for name, place in _PLACES.items()})


def write_runtime_params(state: StateWriter, before: RuntimeParams, after: RuntimeParams) -> None:
    """Store the modules' records that differ."""
    for name, place in _PLACES.items():
        if getattr(before, name) != getattr(after, name):
            place.write(state, getattr(after, name))


def get_param(params: RuntimeParams, name: str) -> int:
    """The value of a parameter. `name` is `module.field`."""
    module, field = name.split(".")
    value: int = getattr(getattr(params, module), field)
    return value


def apply_changes(params: RuntimeParams, changes: Sequence[ParamChange]) -> RuntimeParams:
    """The parameters with the changes applied, unchecked. Each name is the `module.field` of a parameter."""
    for change in changes:
        module, field = change.name.split(".")
        values: Any = replace(getattr(params, module), **{field: change.value})
        params = replace(params, **{module: values})
    return params
