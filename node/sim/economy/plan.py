"""What a simulated economy is made of: the stated assumptions, and the genesis they start from. The model.

Money on chain is the chain's: every share, fee, bond and slash is a parameter of the genesis, as `genesis/` has it.
What a computation costs its owner is no chain's to know: those figures are here, and docs/economics.md varies them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

from consensus.runtime.params.protocol import RuntimeParams, apply_changes
from genesis.dev import DEV_GENESIS_TIME_MS, build_dev_params
from genesis.public import build_public_params
from genesis.spec import ChainSpec, GenesisAccount, GenesisValidator
from node.sim.economy.parties import SimAccount
from proto_specs.types.calls import ParamChange
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.manifest import Architecture, ExecutionProfile, Manifest, ServiceClass, Unit, UnitKind, WireDtype

AUDITS_MAX = 4
"""Of an epoch, which is short here: what an epoch mints for workers is split among as many."""
PREFILL_PRICE, DECODE_PRICE, BOND_MYL = 20_000, 80_000, 150
"""What `myelin worker run` asks for a layer and token, and bonds, unless it is told otherwise."""
BALANCE = 1_000_000 * NMYL_PER_MYL
STAKE = 100_000 * NMYL_PER_MYL


class ParamsOf(enum.StrEnum):
    """Whose parameters: those for strangers, or those of the development chain, which challenges everything."""

    PUBLIC = "public"
    DEV = "dev"


@dataclass(frozen=True, slots=True)
class EconomyPlan:
    """A market and its assumptions.

    `prefill_cost` and `decode_cost` are what a layer and token costs whoever computes it, in nmyl; a verifier's check
    is a prefill. `requests` come a block,
    `batch` of them are settled together. `detection_permille` is how often a window that is not what the model
    computes is found out. A node costs its validator `node_cost` a block. `scale` multiplies the lengths of requests.
    Without emission there are fees alone. `changes` are put on the chain's parameters, by name `module.field`.
    """

    params_of: ParamsOf = ParamsOf.PUBLIC
    epochs: int = 20
    epoch_blocks: int = 10
    validators: int = 10
    layers: int = 30
    stages: int = 3
    workers_per_stage: int = 4
    clients: int = 4
    requests: int = 8
    batch: int = 4
    prefill_price: int = PREFILL_PRICE
    decode_price: int = DECODE_PRICE
    bond: int = BOND_MYL * NMYL_PER_MYL
    prefill_cost: int = 4_000
    decode_cost: int = 40_000
    node_cost: int = 5_000_000
    detection_permille: int = 900
    scale: int = 1
    has_emission: bool = True
    changes: tuple[tuple[str, int], ...] = ()

    @property
    def blocks(self) -> int:
        """Blocks in which requests come."""
        return self.epochs * self.epoch_blocks

    def get_range(self, stage: int) -> tuple[int, int]:
        """The layers of a stage."""
        return self.layers * stage // self.stages, self.layers * (stage + 1) // self.stages


def build_chain_params(plan: EconomyPlan) -> RuntimeParams:
    """The parameters of the chain that is simulated, with its own periods."""
    params = build_dev_params() if plan.params_of is ParamsOf.DEV else build_public_params()
    return apply_changes(params, [ParamChange(name, value) for name, value in plan.changes])


def build_params(plan: EconomyPlan) -> RuntimeParams:
    """The chain's own parameters, with short periods: as much is minted a block, and no other amount changes."""
    base = build_chain_params(plan)
    epochs = base.staking.epoch_blocks
    staking = replace(
        base.staking,
        epoch_blocks=plan.epoch_blocks,
        emission_per_epoch=base.staking.emission_per_epoch * plan.epoch_blocks // epochs if plan.has_emission else 0,
        emission_halving_epochs=min(base.staking.emission_halving_epochs * epochs // plan.epoch_blocks, (1 << 32) - 1),
        unbonding_blocks=200,
        evidence_blocks=100,
        evidence_ms=100_000,
        jail_blocks=60,
    )
    inference = replace(
        base.inference,
        audits_per_epoch=min(base.inference.audits_per_epoch, AUDITS_MAX),
        worker_unbonding_blocks=100,
        session_expiry_blocks=100_000,
        retention_blocks=100,
        absence_blocks=30,
    )
    governance = replace(base.governance, voting_blocks=50)
    return replace(base, staking=staking, inference=inference, governance=governance)


def build_economy_spec(params: RuntimeParams, accounts: list[SimAccount], validators: list[SimAccount]) -> ChainSpec:
    """A chain on which all have the same money, and the validators the same stake."""
    standing = [GenesisValidator(one.account, one.consensus_key.public_key, STAKE) for one in validators]
    return ChainSpec(
        name="economy",
        ss58_prefix=42,
        block_interval_ms=1_000,
        genesis_time_ms=DEV_GENESIS_TIME_MS,
        accounts=tuple(GenesisAccount(one, BALANCE) for one in sorted(one.account for one in accounts)),
        validators=tuple(sorted(standing, key=lambda one: one.consensus_key)),
        params=params,
    )


def build_economy_manifest(layers: int) -> Manifest:
    """A model of so many layers that nobody has: nothing is computed here."""
    kinds = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, index) for index in range(layers))]
    kinds += [(UnitKind.HEAD, 0), (UnitKind.TOKENIZER, 0), (UnitKind.CHAT_TEMPLATE, 0)]
    return Manifest(
        name="simulated",
        architecture=Architecture("llama", layers, 576, 49_152, 8_192, ()),
        service_class=ServiceClass.EXACT,
        wire_dtype=WireDtype.BF16,
        eos_tokens=(2,),
        units=tuple(Unit(kind, index, 100, bytes([kind, index]) * 16, ()) for kind, index in kinds),
        profile=ExecutionProfile("fp32", "ort", "cpu", 30_000, 1_000, 1, 4_000),
        ranges=(),
        thresholds=(),
    )
