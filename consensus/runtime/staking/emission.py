"""What an epoch mints and how it is split. Integers of nmyl, largest remainder, exact sums; knows no state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from consensus.runtime.arithmetic import PERMILLE, compute_permille, compute_shares
from consensus.runtime.staking.state import StakingParams
from proto_specs.types.chain import Validator


@dataclass(frozen=True, slots=True)
class EmissionParts:
    """An epoch's emission in nmyl: for block producers, for workers by capacity, for verifiers of audits."""

    producers: int
    workers: int
    audits: int


def compute_emission(params: StakingParams, epoch: int, issuance: int) -> int:
    """nmyl an epoch may mint: the schedule's amount, or the rest below the cap on issuance."""
    halvings = epoch // params.emission_halving_epochs
    return min(params.emission_per_epoch >> halvings, max(params.issuance_max - issuance, 0))


def compute_emission_parts(params: StakingParams, epoch: int, issuance: int) -> EmissionParts:
    """The three parts of an epoch's emission; they sum to `compute_emission`."""
    workers, audits = params.worker_emission_permille, params.audit_emission_permille
    emission = compute_emission(params, epoch, issuance)
    return EmissionParts(*compute_shares(emission, [PERMILLE - workers - audits, workers, audits]))


def compute_rewards(
    emission: int,
    members: Sequence[Validator],
    signed: Sequence[int],
    blocks: int,
    joined: Sequence[int] = (),
) -> list[int]:
    """Shares of `emission` by stake x signed commits. The share of missed commits is not minted.

    It counts as one more claimant, so that no validator gains by leaving others' votes out of a commit. `joined` is 1
    for a validator that could not sign the first of the `blocks` commits: it has not missed that commit.
    """
    weights = [member.power * count for member, count in zip(members, signed, strict=True)]
    excused = sum(member.power * one for member, one in zip(members, joined, strict=False)) if blocks else 0
    missed = sum(member.power for member in members) * blocks - excused - sum(weights)
    return compute_shares(emission, [*weights, missed])[:-1]


def compute_turn_rewards(emission: int, made: Sequence[int], blocks: int) -> list[int]:
    """Shares of `emission` by blocks made in one's own turn. The share of other blocks is not minted."""
    return compute_shares(emission, [*made, blocks - sum(made)])[:-1] if blocks else [0] * len(made)


def compute_split(reward: int, own: int, power: int, commission_permille: int) -> tuple[int, int, int]:
    """A validator's reward as (for its own stake, its commission, for its delegators)."""
    for_own, for_delegated = compute_shares(reward, [own, power - own])
    commission = compute_permille(for_delegated, commission_permille)
    return for_own, commission, for_delegated - commission
