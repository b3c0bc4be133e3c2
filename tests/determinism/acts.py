"""The acts of the recorded chain, one for each part of the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.manifests import build_manifest
from consensus.runtime.staking.state import read_validators
from genesis.dev import get_dev_identity
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.types import calls
from proto_specs.types.calls import Outcome, ParamChange
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.promise_calls import JoinSettlement, PromisedByOrder, ReportDoublePromise
from proto_specs.types.request import Leaf, sign_output
from tests.unit.consensus.runtime.inference.inference_world import BOND, DEPOSIT, LAYERS, PRICE
from tests.unit.consensus.runtime.inference.statement_world import state_requests

if TYPE_CHECKING:
    from tests.determinism.story import Story

Act = Callable[["Story"], Iterator[None]]
ALICE, EVE, FERDIE, GRACE = map(get_dev_identity, ("alice", "eve", "ferdie", "grace"))
BOB, CHARLIE, DAVE, HEIDI = map(get_dev_identity, ("bob", "charlie", "dave", "heidi"))


def list_acts() -> list[Act]:
    """All acts; they run side by side."""
    return [
        stake,
        vote_twice,
        serve,
        report_equivocation,
        promise_twice,
        empty_an_account,
        delegate,
        sleep_and_be_jailed,
        retire_a_validator,
        govern,
        batch,
        share_an_account,
    ]


def stake(story: Story) -> Iterator[None]:
    """Bond, stand for election, unbond in parts, withdraw."""
    key = DAVE.consensus_key
    yield from story.expect(DAVE, calls.Bond(90_000 * NMYL_PER_MYL))
    proof = key.sign(Tag.KEY_PROOF_SIGN, DAVE.account)
    yield from story.expect(DAVE, calls.RegisterValidator(key.public_key, proof), tip=5)
    yield from story.expect(DAVE, calls.Unbond(1_000 * NMYL_PER_MYL))
    yield from story.wait(3)
    yield from story.expect(DAVE, calls.Unbond(2_000 * NMYL_PER_MYL + 1))
    yield from story.wait(25)
    yield from story.expect(DAVE, calls.WithdrawUnbonded())


def vote_twice(story: Story) -> Iterator[None]:
    """A validator signs two blocks of one height and is tombstoned."""
    yield from story.wait(150)
    story.evidence.append(story.sealed.make_double_vote(GRACE, story.height - 2))
    yield
    keys = [one.key for one in read_validators(story.chain.state).members]
    assert GRACE.consensus_key.public_key not in keys


def serve(story: Story) -> Iterator[None]:
    """A model, workers, verifiers, sessions, settlements, challenges, verdicts of every kind, moves and retirements."""
    yield from story.expect(HEIDI, calls.RegisterModel(encode(build_manifest(LAYERS))))
    for index, worker in enumerate(story.workers):
        yield from story.expect(worker, story.register_worker(worker, 2 * index, 2 * index + 2))
    for verifier in story.verifiers:
        yield from story.expect(verifier, calls.RegisterVerifier(story.model))
    opening = calls.OpenSession(story.model, story.session_key.public_key, PRICE, DEPOSIT, 100)
    for sequence, tokens in enumerate((60, 0, 100, 33, 60, 7, 90, 60)):
        if sequence % 3 == 0:
            yield from story.expect(story.client, replace(opening, requests_max=3 if sequence else 2))
            story.session = story.receipt.events[0].session  # type: ignore[union-attr]
        settlement = story.settle(sequence, tokens, final=tokens != 33)
        if sequence == 2:
            story.send(story.workers[0], settlement)
            yield
        else:
            yield from story.expect(story.workers[sequence % 3], settlement)
        yield from story.wait(3)
        outcomes = (Outcome.PASS, Outcome.PASS, Outcome.INCONCLUSIVE, Outcome.UNAVAILABLE)
        yield from judge(story, outcomes[sequence % 4] if sequence < 7 else Outcome.FAIL)
    yield from story.expect(story.client, replace(opening, deposit=DEPOSIT // 2))
    session = story.receipt.events[0].session  # type: ignore[union-attr]
    move = calls.UpdateWorker(CHARLIE.worker_key.public_key, "12D3KooWmoved", ("/ip4/127.0.0.1/tcp/2",), 500, 1_000)
    yield from story.expect(story.verifiers[0], calls.ReportAbsent(CHARLIE.worker_key.public_key))
    yield from story.expect(CHARLIE, calls.LeaveWorker(CHARLIE.worker_key.public_key))
    yield from story.expect(CHARLIE, move)
    yield from story.expect(story.client, calls.TopUpSession(session, DEPOSIT // 3))
    story.session = session
    yield from story.expect(story.client, state_requests(story, (0, 1, 5, 6)))
    yield from story.wait(3)
    yield from judge(story, Outcome.PASS)
    yield from story.expect(story.client, calls.CloseSession(session))
    yield from story.wait(8)
    yield from story.expect(story.verifiers[1], calls.UnregisterVerifier(story.model))
    yield from story.expect(CHARLIE, calls.RetireWorker(CHARLIE.worker_key.public_key))
    yield from story.wait(14)
    spare = replace(CHARLIE, worker_key=get_dev_identity("spare").worker_key)
    yield from story.expect(CHARLIE, story.register_worker(spare, 2, 4, bond=BOND + 1))
    yield from story.expect(CHARLIE, calls.MoveWorker(spare.worker_key.public_key, 0, 2))


def judge(story: Story, outcome: Outcome) -> Iterator[None]:
    """Every drawn challenge: commitments of the committee in one block, its reveals in the next. Some forget theirs."""
    drawn, story.drawn = story.drawn, []
    reveals: list[tuple[Any, Any]] = []
    for one in drawn:
        for member in one.committee:
            (verifier,) = [who for who in story.verifiers if who.account == member]
            commit, reveal = story.verdict(one.challenge, verifier, outcome)
            if story.random.random() < 0.9:
                story.send(verifier, commit)
                reveals.append((verifier, reveal))
    yield
    yield from story.wait(4)
    for verifier, reveal in reveals:
        if story.random.random() < 0.95:
            story.send(verifier, reveal)
    yield


def report_equivocation(story: Story) -> Iterator[None]:
    """A worker signs two leaves for one slot, and is told on."""
    yield from story.wait(60)
    key = DAVE.worker_key
    first = Leaf(bytes(32), 1, 0, 0, 32, 64, 0, bytes(32), bytes(32), bytes(32))
    second = replace(first, payload_hash=b"x" * 32)
    signatures = sign_output(first, key), sign_output(second, key)
    call = calls.ReportEquivocation(key.public_key, True, first, signatures[0], second, signatures[1])
    yield from story.expect(HEIDI, call)


def promise_twice(story: Story) -> Iterator[None]:
    """Two stages settle a request one after the other; then its client is told on for another order of its number."""
    yield from story.wait(30)
    opening = calls.OpenSession(story.model, story.session_key.public_key, PRICE, DEPOSIT, 5)
    yield from story.expect(story.client, opening)
    session, before = story.receipt.events[0].session, story.session  # type: ignore[union-attr]
    story.session = session
    whole, other = story.settle(0, 57, final=False), story.order(0, prompt_tokens=41)
    story.session = before
    for number in (2, 0):
        part = JoinSettlement(whole.order, whole.voucher, (whole.stage_roots[number],))
        yield from story.expect(story.workers[number], part)
    yield from story.wait(2)
    yield from story.expect(HEIDI, ReportDoublePromise(other, None, PromisedByOrder(whole.order)))
    yield from story.expect(story.client, calls.CloseSession(session))
    yield from story.wait(40)


def empty_an_account(story: Story) -> Iterator[None]:
    """Everything to somebody else, with and without keeping the account alive."""
    judy = get_dev_identity("judy")
    yield from story.expect(BOB, calls.Transfer(judy.account, 10 * NMYL_PER_MYL))
    yield from story.expect(judy, calls.TransferAll(BOB.account, True))
    yield from story.expect(BOB, calls.Transfer(judy.account, 10 * NMYL_PER_MYL))
    yield from story.expect(judy, calls.TransferAll(BOB.account, False))


def delegate(story: Story) -> Iterator[None]:
    """Stand behind one validator, then another; earn, claim and leave."""
    amount = 5_000 * NMYL_PER_MYL
    yield from story.expect(EVE, calls.SetCommission(50))
    yield from story.expect(BOB, calls.Delegate(EVE.account, amount))
    yield from story.expect(HEIDI, calls.Delegate(EVE.account, amount + 7))
    yield from story.wait(25)
    yield from story.expect(BOB, calls.ClaimRewards(EVE.account))
    yield from story.expect(BOB, calls.Redelegate(EVE.account, ALICE.account, amount // 2))
    yield from story.wait(12)
    yield from story.expect(HEIDI, calls.Undelegate(EVE.account, amount // 3))
    yield from story.wait(26)
    story.send(HEIDI, calls.WithdrawUnbonded())  # the noise may have done it for her
    yield
    yield from story.expect(HEIDI, calls.ClaimRewards(EVE.account))


def sleep_and_be_jailed(story: Story) -> Iterator[None]:
    """A validator signs nothing for an epoch, is jailed, and comes back."""
    yield from story.wait(40)
    story.sealed.absent.add(FERDIE.name)
    yield from story.wait(12)
    keys: list[bytes] = [FERDIE.consensus_key.public_key]
    while FERDIE.consensus_key.public_key in keys:
        yield
        keys = [one.key for one in read_validators(story.chain.state).members]
    story.sealed.absent.clear()
    yield from story.wait(16)
    yield from story.expect(FERDIE, calls.Unjail())


def retire_a_validator(story: Story) -> Iterator[None]:
    """A validator stands for election no more."""
    yield from story.wait(100)
    yield from story.expect(DAVE, calls.RetireValidator())


def govern(story: Story) -> Iterator[None]:
    """One proposal that passes and one that does not."""
    yield from story.wait(2)
    for value, approve in ((11, True), (12, False)):
        yield from story.expect(ALICE, calls.ProposeParams((ParamChange("system.byte_price", value),)))
        (proposal,) = [one.proposal for one in story.receipt.events if hasattr(one, "proposal")]
        for who in (ALICE, EVE, GRACE, FERDIE):
            yield from story.expect(who, calls.VoteParams(proposal, approve))
        yield from story.wait(10)


def batch(story: Story) -> Iterator[None]:
    """All or nothing, each for itself; one of each that holds a failing call."""
    good, bad = calls.Transfer(HEIDI.account, NMYL_PER_MYL), calls.Unbond(1 << 60)
    for kind in (calls.BatchAll, calls.BatchEach):
        yield from story.expect(BOB, kind((good, calls.Remark(b"in a batch"), good)))
        story.send(BOB, kind((good, bad, good)))
        yield


def share_an_account(story: Story) -> Iterator[None]:
    """Two of three approve with the call, two of three by its hash, and one takes an operation back."""
    three = sorted((BOB.account, CHARLIE.account, HEIDI.account))
    call = calls.Remark(b"of several")

    def others(who: bytes) -> tuple[bytes, ...]:
        return tuple(one for one in three if one != who)

    yield from story.expect(BOB, calls.AsMulti(2, others(BOB.account), None, call))
    opened = story.height
    (call_hash,) = {one.call_hash for one in story.receipt.events if hasattr(one, "call_hash")}
    yield from story.expect(CHARLIE, calls.AsMulti(2, others(CHARLIE.account), opened, call))
    yield from story.expect(HEIDI, calls.ApproveAsMulti(2, others(HEIDI.account), None, call_hash))
    opened = story.height
    yield from story.expect(BOB, calls.AsMulti(2, others(BOB.account), opened, call))
    yield from story.expect(BOB, calls.ApproveAsMulti(2, others(BOB.account), None, call_hash))
    yield from story.expect(BOB, calls.CancelAsMulti(2, others(BOB.account), story.height, call_hash))
