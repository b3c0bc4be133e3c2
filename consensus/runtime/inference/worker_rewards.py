"""A worker's emission is shared with who stands behind its operator, as a validator's is (staking.md, F1).

Where the operator is a validator with delegations, its own stake and the worker's bond earn its own part; of the
delegators' part it keeps its commission, and the rest goes into its pool. Elsewhere all of it is the operator's. What
was delegated in this epoch does not count: it would take of the operator's part for those who came before.
"""

from __future__ import annotations

from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import read_issuance
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.emission import compute_split
from consensus.runtime.staking.events import DelegatorsRewarded
from consensus.runtime.staking.pools import compute_value, open_pool, pay_in


def mint_for_worker(env: Environment, operator: bytes, bond: int, amount: int) -> int:
    """Mint up to `amount` nmyl within the cap on issuance; returns what was minted."""
    state, height = env.state, env.block.height
    amount = compute_mintable(env, amount)
    pool = open_pool(state, operator, height)
    delegated = compute_value(pool.tokens, pool.shares, pool.shares - pool.fresh)
    own = staking.read_stake(state, operator).bonded + bond
    paid = 0
    if delegated:
        commission_permille = staking.read_commission(state, operator, height)
        _, commission, for_delegators = compute_split(amount, own, own + delegated, commission_permille)
        paid = pay_in(state, operator, for_delegators, height)
        if paid:
            env.emit(DelegatorsRewarded(operator, paid, commission))
    ledger.mint(state, operator, amount - paid)
    return amount


def compute_mintable(env: Environment, amount: int) -> int:
    """As much of `amount` as the cap on issuance leaves."""
    return min(amount, max(staking.read_params(env.state).issuance_max - read_issuance(env.state), 0))
