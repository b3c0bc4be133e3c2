"""Scenarios of system, balances, utility, multisig and params."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.weights.rig import Rig
from benchmarks.weights.sample import Measurement, Sample
from benchmarks.weights.worlds import VALIDATORS, build_spec, get_payer, get_validator
from genesis.dev import DevIdentity
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import BATCH_CALLS_MAX, MULTISIG_SIGNATORIES_MAX, PARAM_CHANGES_MAX
from proto_specs.types import calls
from proto_specs.types.multisig import MultisigOwners, compute_call_hash, compute_multisig_account

ALICE, BOB = get_payer(0), get_payer(1)
AMOUNT = 10_000_000
_CHANGES = (
    ("balances.existential_deposit", 2_000_000),
    ("inference.probation_value", 500_001),
    ("inference.session_notice_blocks", 11),
    ("inference.session_expiry_blocks", 3_601),
    ("inference.session_deposit_min", 1_000_001),
    ("inference.burn_permille", 51),
    ("inference.verification_permille", 101),
    ("inference.bounty_permille", 501),
    ("inference.retention_blocks", 10_001),
    ("inference.unavailable_max", 4),
    ("inference.worker_jail_blocks", 101),
    ("staking.delegation_min", 1_000_001),
    ("staking.jail_blocks", 61),
    ("governance.voting_blocks", 51),
    ("multisig.deposit_base", 10_000_001),
    ("system.fee_base", 1_001),
)
assert len(_CHANGES) == PARAM_CHANGES_MAX


def measure() -> Iterator[Measurement]:
    """Measure all calls of these modules."""
    rig = Rig(build_spec())
    rig.skip_to(3)
    yield Measurement("", "an empty transaction", "", 0, rig.measure_transaction(ALICE))
    for size in (0, 256, 1_024):
        yield Measurement("Remark", "bytes", "bytes", size, rig.measure_call(ALICE, calls.Remark(bytes(size))))
    fresh = hash_tagged(Tag.PAYLOAD, b"a new account")
    yield Measurement("Transfer", "new account", "", 0, rig.measure_call(ALICE, calls.Transfer(fresh, AMOUNT)))
    known = calls.Transfer(BOB.account, AMOUNT)
    yield Measurement("Transfer", "known account", "", 0, rig.measure_call(ALICE, known))
    everything = rig.measure_call(ALICE, calls.TransferAll(fresh, keep_alive=False))
    yield Measurement("TransferAll", "new account", "", 0, everything)
    yield from _measure_batches(rig)
    yield from _measure_multisig(rig)
    yield from _measure_held(rig)
    yield from _measure_params(rig)


def _measure_batches(rig: Rig) -> Iterator[Measurement]:
    """Batches of empty remarks. The remarks' own price is subtracted, and the batch's price is left."""
    for kind in (calls.BatchAll, calls.BatchEach):
        for size in (1, BATCH_CALLS_MAX // 4, BATCH_CALLS_MAX):
            sample = rig.measure_call(ALICE, kind((calls.Remark(b""),) * size))
            yield Measurement(kind.__name__, "empty remarks", "calls", size, sample)


def _measure_multisig(rig: Rig) -> Iterator[Measurement]:
    inner = calls.Remark(b"")
    for size in (2, MULTISIG_SIGNATORIES_MAX // 4, MULTISIG_SIGNATORIES_MAX):
        owners = sorted((get_payer(number) for number in range(size)), key=lambda one: one.account)
        others = size - 1

        def build(kind: Any, who: DevIdentity, threshold: int, opened: int | None, what: Any, owners: Any) -> Any:
            rest = tuple(one.account for one in owners if one is not who)
            return kind(threshold, rest, opened, what)

        opener, last = owners[0], owners[-1]
        call_hash = compute_call_hash(inner)
        opening = build(calls.ApproveAsMulti, opener, size, None, call_hash, owners)
        yield Measurement("ApproveAsMulti", "opening", "others", others, rig.measure_call(opener, opening))
        as_multi = build(calls.AsMulti, opener, size, None, inner, owners)
        yield Measurement("AsMulti", "opening", "others", others, rig.measure_call(opener, as_multi))
        twin = rig.copy()
        twin.block((opener, opening))
        at = twin.height
        cancelling = build(calls.CancelAsMulti, opener, size, at, call_hash, owners)
        yield Measurement("CancelAsMulti", "cancelling", "others", others, twin.measure_call(opener, cancelling))
        for one in owners[1 : max(size - 2, 1)]:
            twin.block((one, build(calls.ApproveAsMulti, one, size, at, call_hash, owners)))
        if size > 2:
            approving = build(calls.ApproveAsMulti, owners[-2], size, at, call_hash, owners)
            yield Measurement(
                "ApproveAsMulti", "last but one", "others", others, twin.measure_call(owners[-2], approving)
            )
            twin.block((owners[-2], approving))
        running = build(calls.AsMulti, last, size, at, inner, owners)
        yield Measurement("AsMulti", "running", "others", others, twin.measure_call(last, running))
        assert compute_multisig_account(MultisigOwners(size, tuple(one.account for one in owners)))


def _measure_held(rig: Rig) -> Iterator[Measurement]:
    """The extra cost of running a batch as a multisig operation: it is hashed to find its approvals."""
    first, second = sorted((get_payer(2), get_payer(3)), key=lambda one: one.account)
    account = compute_multisig_account(MultisigOwners(2, (first.account, second.account)))
    rig.block((BOB, calls.Transfer(account, 1_000 * AMOUNT)))
    for size in (1, BATCH_CALLS_MAX // 4, BATCH_CALLS_MAX):
        batch = calls.BatchAll((calls.Transfer(ALICE.account, 2),) * size)
        twin = rig.copy()
        twin.block((first, calls.AsMulti(2, (second.account,), None, batch)))
        running = calls.AsMulti(2, (first.account,), twin.height, batch)
        own = twin.measure_call(second, running, above=(BOB, batch))
        yield Measurement("AsMulti", "a batch, less the batch", "held", size, own)


def _measure_params(rig: Rig) -> Iterator[Measurement]:
    """Every other operator has an open proposal, so the last operator's proposal is queued behind all of theirs."""
    operators = sorted((get_validator(number) for number in range(VALIDATORS)), key=lambda one: one.account)
    proposing, others = operators[-1], operators[:-1]
    changes = tuple(calls.ParamChange(name, value) for name, value in _CHANGES)
    rig.block(*((one, calls.ProposeParams(changes[:1])) for one in others))
    for size in (1, PARAM_CHANGES_MAX // 2, PARAM_CHANGES_MAX):
        call = calls.ProposeParams(changes[:size])
        counted, vote = _measure_count(rig, operators, call)
        yield Measurement(
            "ProposeParams",
            "after all others, and its count",
            "changes",
            size,
            rig.measure_call(proposing, call) + counted,
        )
        yield Measurement("VoteParams", "and its count", "", size, vote)


def _measure_count(rig: Rig, operators: Sequence[DevIdentity], call: calls.ProposeParams) -> tuple[Sample, Sample]:
    """(counting a proposal that passes, without its votes; a vote with its share of the count)."""
    found = []
    enough = len(operators) * rig.spec.params.governance.approval_permille // 1_000 + 1
    for voters in (enough, len(operators)):
        alone = Rig(rig.spec)
        alone.block((operators[0], call))
        alone.block(*((one, calls.VoteParams(0, True)) for one in operators[:voters]))
        vote = alone.measure_call(operators[-1], calls.VoteParams(0, False))
        alone.skip_to(rig.spec.params.governance.voting_blocks)
        found.append(alone.measure_hooks())
    few, all_ = found
    share = (all_ - few).divide(len(operators) - enough)
    return few - share.multiply(enough), vote + share
