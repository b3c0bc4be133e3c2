"""Builds the state before block 1, and its root, from a spec. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from consensus.beacon import compute_genesis_beacon
from consensus.bft.proposer import ProposerRotation
from consensus.runtime.balances import state as balances
from consensus.runtime.balances.ledger import hold, write_account
from consensus.runtime.inference import state as inference
from consensus.runtime.multisig import state as multisig
from consensus.runtime.params import state as governance
from consensus.runtime.staking import state as staking
from consensus.runtime.staking import turns
from consensus.runtime.system import state as system
from consensus.state.overlay import Overlay
from consensus.state.reader import DictState
from consensus.state.tree import EMPTY_ROOT, TreeUpdate, update
from genesis.spec import ChainSpec, compute_genesis_hash, validate_spec
from proto_specs.types.chain import Validator, ValidatorSet


@dataclass(frozen=True, slots=True)
class Genesis:
    """A built spec: `items` is the sorted state after block 0, `tree` its tree, `beacon` the one before block 1."""

    spec: ChainSpec
    hash: bytes
    items: tuple[tuple[bytes, bytes], ...]
    tree: TreeUpdate
    validators: ValidatorSet
    beacon: bytes

    @property
    def state_root(self) -> bytes:
        """Root of the state before block 1."""
        return self.tree.root


def build_genesis(spec: ChainSpec) -> Genesis:
    """Check a spec and write the state it describes. Raises SpecError."""
    validate_spec(spec)
    genesis_hash = compute_genesis_hash(spec)
    beacon = compute_genesis_beacon(genesis_hash)
    state = Overlay(DictState())
    _write_system(state, spec, beacon)
    _write_balances(state, spec)
    validators = _write_staking(state, spec)
    inference.params.write(state, spec.params.inference)
    governance.params.write(state, spec.params.governance)
    multisig.params.write(state, spec.params.multisig)
    changes = state.changes()
    items = tuple((key, value) for key, value in changes if value is not None)
    tree = update(lambda path: None, EMPTY_ROOT, changes)
    return Genesis(spec, genesis_hash, items, tree, validators, beacon)


def _write_system(state: Overlay, spec: ChainSpec, beacon: bytes) -> None:
    system.params.write(state, spec.params.system)
    system.now.write(state, system.Now(0, spec.genesis_time_ms))
    system.beacon.write(state, beacon)
    system.weight_price.write(state, spec.params.system.weight_price_min)


def _write_balances(state: Overlay, spec: ChainSpec) -> None:
    balances.params.write(state, spec.params.balances)
    for one in spec.accounts:
        write_account(state, one.account, balances.Account(0, one.balance, 0))
    balances.issuance.write(state, sum(one.balance for one in spec.accounts))


def _write_staking(state: Overlay, spec: ChainSpec) -> ValidatorSet:
    staking.params.write(state, spec.params.staking)
    for one in spec.validators:
        hold(state, one.operator, balances.HoldReason.STAKE, one.stake)
        staking.stakes.write(state, one.operator, staking.Stake(one.stake, ()))
        staking.candidates.write(state, one.operator, one.consensus_key)
        staking.operators.write(state, one.consensus_key, one.operator)
        staking.keys.write(state, one.operator, one.consensus_key)
    members = tuple(Validator(one.consensus_key, one.operator, one.stake) for one in spec.validators)
    elected = ValidatorSet(tuple(sorted(members, key=lambda one: one.key)))
    staking.validators.write(state, elected)
    staking.rotation.write(state, ProposerRotation.start(elected).encode_priorities())
    staking.proposals.write(state, turns.start(elected))
    staking.participation.write(state, staking.Participation(0, (0,) * len(members)))
    staking.elected.write(state, staking.Elected(tuple(one.power for one in elected.members), (0,) * len(members)))
    return elected
