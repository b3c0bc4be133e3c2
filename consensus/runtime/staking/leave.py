"""Delegated stake that leaves. It has no vote and earns nothing, so a slash does not visit it: the withdrawal computes
what slashes take, from their records. At most four slashes reach an amount, two for each validator it is liable for:
the downtime of the epoch in which it left, and the single double-signing of a validator's life.
"""

from __future__ import annotations

from consensus.runtime.arithmetic import PERMILLE, compute_cut
from consensus.runtime.balances import ledger
from consensus.runtime.balances.state import HoldReason
from consensus.runtime.context import Environment
from consensus.runtime.staking import state as staking
from consensus.runtime.staking.errors import TooManyUnbonding
from consensus.runtime.staking.events import LeaverSlashed
from consensus.runtime.staking.pool_state import (
    EMPTY_QUEUE,
    LEAVING_MAX,
    Leaving,
    LeavingQueue,
    Liability,
    leaving,
)
from consensus.state.reader import StateReader


def queue_leaving(env: Environment, who: bytes, entries: list[Leaving]) -> None:
    """Queue undelegated amounts; the caller has put them under the delegator's hold. Raises TooManyUnbonding."""
    queue = leaving.read(env.state, who) or EMPTY_QUEUE
    if len(queue.entries) + len(entries) > LEAVING_MAX:
        raise TooManyUnbonding(f"{len(queue.entries)} amounts are unbonding already")
    leaving.write(env.state, who, LeavingQueue((*queue.entries, *entries)))


def withdraw_matured(env: Environment, who: bytes) -> int | None:
    """Free the matured delegated stake and burn what slashes took. Returns the nmyl freed, None if none matured."""
    queue = leaving.read(env.state, who) or EMPTY_QUEUE
    matured = [one for one in queue.entries if one.height <= env.block.height]
    if not matured:
        return None
    left = tuple(one for one in queue.entries if one.height > env.block.height)
    if left:
        leaving.write(env.state, who, LeavingQueue(left))
    else:
        leaving.delete(env.state, who)
    freed = sum(compute_left(env.state, one) for one in matured)
    burned = sum(one.amount for one in matured) - freed
    ledger.release(env.state, who, HoldReason.DELEGATION, freed)
    if burned:
        ledger.burn_held(env.state, who, HoldReason.DELEGATION, burned)
        env.emit(LeaverSlashed(who, burned))
    return freed


def compute_left(state: StateReader, entry: Leaving) -> int:
    """nmyl of a leaving amount after every slash so far that reaches it. Rounding is against the leaver: splitting an
    amount costs up to one unit more per part, never less."""
    amount = entry.amount
    for one in entry.liabilities:
        amount -= compute_cut(amount, _find_downtime(state, entry.begun, one), PERMILLE)
        convicted = staking.convictions.read(state, one.validator)
        if convicted is not None and is_reached(convicted, entry.begun, one):
            amount -= compute_cut(amount, convicted.numerator, convicted.denominator)
    return amount


def is_reached(convicted: staking.Conviction, begun: int, liability: Liability) -> bool:
    """Whether the stake voted at the time of the offence and was leaving at the time of the punishment."""
    is_in_time = begun < convicted.height < liability.until
    return is_in_time and convicted.offence_height <= liability.votes_until


def _find_downtime(state: StateReader, begun: int, liability: Liability) -> int:
    """Permille of the downtime slash for the epoch in which the stake left. It is applied after the epoch's calls."""
    if not begun <= liability.votes_until < liability.until:
        return 0
    return staking.downtimes.read(state, liability.validator, liability.votes_until) or 0
