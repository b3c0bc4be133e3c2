"""Random delegations, epochs, absences and double votes against a model that keeps every lot by itself, in fractions.

The chain pools: it slashes a pool at once, and leavers when they withdraw. The model has no pools to speak of: each
lot of stake knows where it came from, is slashed when it happens and paid when it happens.

How far they may be apart, and why no further. A pool has about 2^32 shares for each nmyl, or more after slashes,
and each call misses at most one share: thousands of calls cost less than `TRACE`. All else are whole nmyl:

- Stake on its way out: every slash rounds up what it takes, so an amount that `hits` slashes reached is less than
  `hits` below the fractions, and never above: nobody gains a unit by leaving in many pieces.
- A delegation: ordinary stake and each liable redelegation are rounded down by themselves, so with `n` redelegations
  it is less than `n + 1` below the fractions, and not above. What is worth no whole nmyl ends when its owner makes a
  call: the others have it then, in the model, too.
- A pool's tokens: a slash of the pool, and of each cohort in it, rounds down what it burns. The model then goes on with
  the chain's whole tokens.
- Rewards: each holding is paid whole nmyl, and when it ends its last fraction goes to the others. Every holding began
  with a lot: of one's own, each costs less than a unit; of others', each brings less than a unit.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from consensus.runtime.staking import events, pool_state, queries
from consensus.runtime.staking import state as staking
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.types import calls
from tests.property.consensus.runtime.staking.delegation_model import TRACE, VALIDATORS, Exit, Lot, Pool, check_exits
from tests.unit.consensus.runtime.chain import Chain
from tests.unit.consensus.runtime.staking.staking_world import (
    build_double_proposal,
    build_evidence,
    build_spec,
    check_pools,
)

EPOCH, UNBONDING, EVIDENCE = 5, 13, 8
OFFENCES = (build_evidence, build_double_proposal)

DELEGATORS = {name: get_dev_identity(name) for name in ("eve", "ferdie", "dave")}
NAME_OF = {one.account: one.name for one in (*VALIDATORS.values(), *DELEGATORS.values())}
VALIDATOR = st.sampled_from(sorted(VALIDATORS))
DELEGATOR = st.sampled_from(sorted(DELEGATORS))
AMOUNT = st.one_of(st.integers(1, 5_000), st.integers(1_000, 10**9), st.integers(10**9, 10**14))
PART = st.one_of(st.just(1_000), st.integers(1, 1_000))


class Delegation(RuleBasedStateMachine):
    """Every rule is a block, or several."""

    def __init__(self) -> None:
        super().__init__()
        spec = build_spec(
            epoch_blocks=EPOCH,
            unbonding_blocks=UNBONDING,
            evidence_blocks=EVIDENCE,
            evidence_ms=1_000,
            downtime_slash_permille=100,
            jail_blocks=3,
            delegation_min=1_000,
        )
        self.chain = Chain(spec)
        self.pools = {name: Pool() for name in VALIDATORS}
        self.exits: dict[str, list[Exit]] = {name: [] for name in DELEGATORS}
        self.earned: dict[tuple[str, str], Fraction] = {}
        self.paid: dict[tuple[str, str], int] = {}
        self.convicted: set[str] = set()
        self.values: list[int] = []
        for who, validator in (("eve", "alice"), ("ferdie", "bob"), ("dave", "alice")):
            self.delegate_amount(who, validator, 10**12 + len(who))
        for _ in range(EPOCH):
            self.block()

    def block(self, who: DevIdentity | None = None, call: Any = None, absent: str = "", evidence: Any = ()) -> bool:
        """One block; the model follows its events. Whether the call succeeded."""
        members = staking.read_validators(self.chain.state).members
        self.chain.proposer = VALIDATORS[NAME_OF[members[0].operator]]
        signers = [one.key for one in members if NAME_OF[one.operator] != absent]
        transactions = [self.chain.sign(who, call)] if who else []
        block = self.chain.block(transactions, evidence, signed_by=signers if self.chain.height else None)
        for event in block.events.initialize:
            if isinstance(event, events.ValidatorSlashed):
                found = staking.convictions.read(self.chain.state, event.operator)
                assert found is not None
                fraction = Fraction(found.numerator, found.denominator)
                self.slash(NAME_OF[event.operator], event.height, self.chain.height - 1, fraction)
        receipt = block.receipts[0] if block.receipts else None
        for event in receipt.events if receipt else ():
            self.follow(event)
        for event in block.events.finalize:
            if isinstance(event, events.DelegatorsRewarded):
                self.reward(NAME_OF[event.validator], event.amount)
            elif isinstance(event, events.ValidatorJailed):
                self.slash(NAME_OF[event.operator], self.chain.height, self.chain.height, Fraction(1, 10))
        self.sync_tokens()
        return receipt is not None and receipt.error is None

    def follow(self, event: Any) -> None:
        """What a call did, by its events."""
        if isinstance(event, events.DelegationPaid):
            key = NAME_OF[event.who], NAME_OF[event.validator]
            self.paid[key] = self.paid.get(key, 0) + event.amount
        elif isinstance(event, events.Delegated):
            self.join(NAME_OF[event.who], NAME_OF[event.validator], event.amount, None)
            self.end_worthless(NAME_OF[event.who], NAME_OF[event.validator])
        elif isinstance(event, events.Undelegated):
            who, validator = NAME_OF[event.who], NAME_OF[event.validator]
            queue = pool_state.leaving.read(self.chain.state, event.who)
            assert queue is not None
            entries = [one for one in queue.entries if one.begun == self.chain.height]
            assert sum(one.amount for one in entries) == event.amount
            parts = {}
            for entry in entries:
                mine, *other = ((NAME_OF[one.validator], one.votes_until, one.until) for one in entry.liabilities)
                assert (entry.height, mine) == (event.height, (validator, self.epoch_end, event.height))
                parts[other[0] if other else None] = entry.amount
                self.exits[who].append(Exit(Fraction(entry.amount), entry.begun, entry.height, [mine, *other]))
            self.leave(who, validator, parts)
            self.end_worthless(who, validator)
        elif isinstance(event, events.Redelegated):
            who, source = NAME_OF[event.who], NAME_OF[event.source]
            self.leave(who, source, {None: event.amount})
            self.join(who, NAME_OF[event.dest], event.amount, (source, self.epoch_end, event.liable_until))
            self.end_worthless(who, source)
            self.end_worthless(who, NAME_OF[event.dest])

    def sync_tokens(self) -> None:
        """Go on with the chain's whole tokens: each slash may have burned a unit less by rounding."""
        for name, pool in self.pools.items():
            tokens = pool_state.read_pool(self.chain.state, VALIDATORS[name].account).tokens
            assert abs(tokens - pool.tokens) <= pool.slashes, (name, tokens, float(pool.tokens), pool.slashes)
            pool.tokens, pool.slashes = Fraction(tokens), 0

    @property
    def epoch_end(self) -> int:
        return -(-self.chain.height // EPOCH) * EPOCH

    def join(self, who: str, validator: str, amount: int, source: tuple[str, int, int] | None) -> None:
        pool = self.pools[validator]
        shares = Fraction(amount) * pool.shares / pool.tokens if pool.shares else Fraction(amount)
        pool.tokens += amount
        pool.lots.setdefault(who, []).append(Lot(shares, self.epoch_end, source))
        pool.begun[who] = pool.begun.get(who, 0) + 1

    def leave(self, who: str, validator: str, parts: dict[Any, int]) -> None:
        """Take whole nmyl of the groups, by source. One that loses all it was worth ends, and with it a fraction of a
        nmyl that stays with the others: who takes several whole groups may get that in a later one."""
        pool, left = self.pools[validator], dict(parts)
        groups = pool.list_groups(who, self.chain.height)
        worth = [pool.compute_worth(one) for one in groups]
        assert all(-TRACE <= one - value < 1 + TRACE for one, value in zip(worth, self.values, strict=True))
        assert sum(parts.values()) <= sum(worth) + TRACE
        price = pool.tokens / pool.shares
        for group, value in zip(groups, self.values, strict=True):
            part = left.pop(group[0].source if group is not groups[0] else None, 0)
            assert part <= value + (group is not groups[0])
            assert part >= value or not left, "the groups leave in order"
            rest = Fraction(part)
            for lot in group:
                taken = lot.shares if part >= value else min(rest / price, lot.shares)
                lot.shares -= taken
                rest -= taken * price
        assert not left
        pool.lots[who] = [lot for lot in pool.lots[who] if lot.shares]
        pool.tokens -= sum(parts.values())

    def end_worthless(self, who: str, validator: str) -> None:
        """A call ends holdings that are worth no whole nmyl: beside a redelegation there can be such. They were the
        caller's, and what is left of them stays with the others."""
        pool, account = self.pools[validator], VALIDATORS[validator].account
        free, *held = pool.list_groups(who, self.chain.height)
        if pool_state.delegations.read(self.chain.state, DELEGATORS[who].account, account) is None:
            self.end_group(pool, free)
        for group in held:
            assert group[0].source is not None
            source, votes_until, _ = group[0].source
            key = DELEGATORS[who].account, account, votes_until, VALIDATORS[source].account
            if pool_state.memberships.read(self.chain.state, *key) is None:
                self.end_group(pool, group)
        pool.lots[who] = [lot for lot in pool.lots.get(who, []) if lot.shares]

    def end_group(self, pool: Pool, lots: list[Lot]) -> None:
        assert pool.compute_worth(lots) < 1 + TRACE
        for lot in lots:
            lot.shares = Fraction(0)

    def reward(self, validator: str, amount: int) -> None:
        pool, height = self.pools[validator], self.chain.height
        earning = {
            who: sum((one.shares for one in lots if one.earns_after < height), Fraction(0))
            for who, lots in pool.lots.items()
        }
        whole = sum(earning.values(), Fraction(0))
        for who, shares in earning.items():
            key = who, validator
            self.earned[key] = self.earned.get(key, Fraction(0)) + amount * shares / whole

    def slash(self, validator: str, offence: int, after: int, fraction: Fraction) -> None:
        """Everything that voted at the offence loses `fraction`, wherever it is by now. `after`: the calls it saw."""
        pool, height = self.pools[validator], self.chain.height
        for dest, other in self.pools.items():
            for lots in other.lots.values():
                for lot in lots:
                    is_source = lot.source is not None and lot.source[0] == validator and dest != validator
                    if is_source and lot.source is not None and offence <= lot.source[1] and height < lot.source[2]:
                        self.burn_lot(other, lot, fraction)
        pool.tokens -= math.floor(pool.tokens * fraction)
        pool.slashes += 1
        for exits in self.exits.values():
            for one in exits:
                for liable, votes_until, until in one.liabilities:
                    if liable == validator and offence <= votes_until and one.begun <= after and height < until:
                        one.amount -= one.amount * fraction
                        one.hits += 1

    def burn_lot(self, pool: Pool, lot: Lot, fraction: Fraction) -> None:
        """Other lots keep their worth: the tokens go with the shares."""
        pool.tokens -= pool.worth(lot.shares) * fraction
        lot.shares *= 1 - fraction
        pool.slashes += 1

    @rule(who=DELEGATOR, validator=VALIDATOR, amount=AMOUNT)
    def delegate(self, who: str, validator: str, amount: int) -> None:
        self.delegate_amount(who, validator, amount)

    def delegate_amount(self, who: str, validator: str, amount: int) -> None:
        self.block(DELEGATORS[who], calls.Delegate(VALIDATORS[validator].account, amount))

    def list_sources(self) -> list[tuple[str, str]]:
        """Who delegates to whom, to pick from."""
        return [(who, one) for who in sorted(DELEGATORS) for one in sorted(VALIDATORS) if self.query(who, one).amount]

    def query(self, who: str, validator: str) -> queries.DelegationInfo:
        account = VALIDATORS[validator].account
        return queries.query_delegation(self.chain.state, DELEGATORS[who].account, account)

    def look_at(self, who: str, validator: str) -> queries.DelegationInfo:
        """What is there before a call, with the whole nmyl of each group: on the edge, shares decide what those are."""
        info = self.query(who, validator)
        liable = [one.amount for one in info.liable if one.amount]
        self.values = [info.amount - sum(liable), *liable]
        return info

    @rule(index=st.integers(0, 11), permille=PART)
    def undelegate(self, index: int, permille: int) -> None:
        found = self.list_sources()
        if not found:
            return
        who, validator = found[index % len(found)]
        amount = self.look_at(who, validator).amount * permille // 1_000
        succeeded = self.block(DELEGATORS[who], calls.Undelegate(VALIDATORS[validator].account, amount))
        assert self.chain.last is not None
        error = self.chain.last.receipts[0].error
        is_queue_full = error is not None and error.error == "TooManyUnbonding"
        assert succeeded or permille < 1_000 or not amount or is_queue_full, "everybody can leave at any time"

    @rule(index=st.integers(0, 11), dest=VALIDATOR, permille=PART)
    def redelegate(self, index: int, dest: str, permille: int) -> None:
        found = self.list_sources()
        if not found:
            return
        who, source = found[index % len(found)]
        info = self.look_at(who, source)
        amount = (info.amount - sum(one.amount for one in info.liable)) * permille // 1_000
        call = calls.Redelegate(VALIDATORS[source].account, VALIDATORS[dest].account, amount)
        self.block(DELEGATORS[who], call)

    @rule(who=DELEGATOR, validator=VALIDATOR)
    def claim(self, who: str, validator: str) -> None:
        pending = self.query(who, validator).pending
        succeeded = self.block(DELEGATORS[who], calls.ClaimRewards(VALIDATORS[validator].account))
        if succeeded:
            self.end_worthless(who, validator)
        assert succeeded or not pending

    @rule(who=DELEGATOR)
    def withdraw(self, who: str) -> None:
        account = DELEGATORS[who].account
        before = self.chain.free(DELEGATORS[who])
        if not self.block(DELEGATORS[who], calls.WithdrawUnbonded()):
            return
        assert self.chain.last is not None
        (receipt,) = self.chain.last.receipts
        (got,) = (one.amount for one in receipt.events if isinstance(one, events.Withdrawn))
        # dave is a validator, too: in an epoch's last block it is paid for that besides.
        paid = [one for one in self.chain.last.events.finalize if isinstance(one, events.ValidatorRewarded)]
        earned = sum(one.amount for one in paid if one.operator == account)
        assert self.chain.free(DELEGATORS[who]) == before - receipt.fee + got + earned
        check_exits(got, [one for one in self.exits[who] if one.height <= self.chain.height])
        self.exits[who] = [one for one in self.exits[who] if one.height > self.chain.height]

    @rule(count=st.integers(1, 2 * EPOCH))
    def wait(self, count: int) -> None:
        for _ in range(count):
            self.block()

    @rule(validator=VALIDATOR)
    def be_absent(self, validator: str) -> None:
        while True:
            self.block(absent=validator)
            if self.chain.height % EPOCH == 0:
                return

    @rule(validator=VALIDATOR)
    def unjail(self, validator: str) -> None:
        self.block(VALIDATORS[validator], calls.Unjail())

    @rule(validator=VALIDATOR, permille=st.integers(0, 500))
    def set_commission(self, validator: str, permille: int) -> None:
        self.block(VALIDATORS[validator], calls.SetCommission(permille))

    @precondition(lambda self: self.chain.height > 1)
    @rule(validator=VALIDATOR, age=st.integers(0, EVIDENCE - 1), build=st.sampled_from(OFFENCES))
    def sign_twice(self, validator: str, age: int, build: Any) -> None:
        if validator in self.convicted or len(self.convicted) == len(VALIDATORS) - 1:
            return
        self.convicted.add(validator)
        height = max(self.chain.height - age, 1)
        self.block(evidence=[build(self.chain, VALIDATORS[validator], height)])

    @invariant()
    def pools_are_exact(self) -> None:
        check_pools(self.chain.state)

    @invariant()
    def delegators_have_what_is_theirs(self) -> None:
        for who, account in DELEGATORS.items():
            for validator, pool in self.pools.items():
                self.check_delegation(who, validator, pool)
            leaving = [one for one in queries.list_unbonding(self.chain.state, account.account) if one.validator]
            for found, ideal in zip(leaving, self.exits[who], strict=True):
                check_exits(found.amount, [ideal])

    def check_delegation(self, who: str, validator: str, pool: Pool) -> None:
        info, groups = self.query(who, validator), pool.list_groups(who, self.chain.height + 1)
        short = sum((pool.compute_worth(one) for one in groups), Fraction(0)) - info.amount
        assert -TRACE <= short < len(groups) + TRACE, (who, validator, info.amount, float(short))
        earned = self.earned.get((who, validator), Fraction(0))
        more = self.paid.get((who, validator), 0) + info.pending - earned
        own = pool.begun.get(who, 0)
        assert -1 - own - TRACE < more < sum(pool.begun.values()) - own + TRACE, (who, validator, float(more))


TestDelegation = Delegation.TestCase
TestDelegation.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)


def test_history_two_jail_slashes_and_a_withdrawal_in_an_epochs_last_block() -> None:
    """Once reported as a wrong payment: what dave is paid as a validator came with what it withdrew as a delegator."""
    history = Delegation()
    history.be_absent("alice")
    history.undelegate(0, 1_000)
    for _ in range(2):
        history.be_absent("alice")
    history.unjail("alice")
    history.claim("eve", "alice")
    history.redelegate(0, "bob", 500)
    while (history.chain.height + 1) % EPOCH:
        history.wait(1)
    history.withdraw("dave")
    history.delegators_have_what_is_theirs()
    assert history.chain.last is not None
    paid = [one for one in history.chain.last.events.finalize if isinstance(one, events.ValidatorRewarded)]
    assert DELEGATORS["dave"].account in {one.operator for one in paid}
    assert history.exits["dave"] == []
