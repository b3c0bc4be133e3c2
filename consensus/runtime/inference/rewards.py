"""The workers' part of an epoch's emission, by what paid work of theirs has burned (staking.md). Economics first:

- a worker's claim is half of what was burned of the prices of its paid stages: who buys his own work burns two nmyl for
  each that is minted to him, and pays the verification share and the fees on top. Work at a price of nothing burns
  nothing, so it claims nothing, and no worker may ask for it;
- what is refunded or slashed claims nothing;
- what the claims do not use is not minted: a lone worker in a quiet epoch cannot take the part of all.

Claims are kept by operator, not by key: splitting one's work over keys changes neither their sum nor a rounding.
"""

from __future__ import annotations

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import WorkersRewarded
from consensus.runtime.staking.emission import compute_emission_parts, compute_worker_rewards
from consensus.runtime.staking.state import compute_epoch, is_epoch_end, read_params


def note_burned(env: Environment, operator: bytes, burned: int) -> None:
    """Count what a paid stage of this operator burned towards its claim in the running epoch."""
    if burned:
        before = inference.burned_in_epoch.read(env.state, operator) or 0
        inference.burned_in_epoch.write(env.state, operator, before + burned)


def finalize(env: Environment) -> None:
    """At an epoch's last block, after the producers were paid: mint the claims, as far as the workers' part goes."""
    params = read_params(env.state)
    if not is_epoch_end(params, env.block.height):
        return
    claims = [(key[0], burned) for key, burned in inference.burned_in_epoch.iterate(env.state)]
    part = compute_emission_parts(params, compute_epoch(params, env.block.height), read_issuance(env.state)).workers
    rewards = compute_worker_rewards(part, [burned for _, burned in claims])
    for (operator, burned), reward in zip(claims, rewards, strict=True):
        inference.burned_in_epoch.delete(env.state, operator)
        if reward:
            ledger.mint(env.state, operator, reward)
            env.emit(WorkersRewarded(operator, reward, burned))
