"""Verifiers with a seat on a committee: what each finds, or says it finds, and its two transactions on chain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from consensus.runtime.inference import state as inference
from consensus.runtime.inference.state import Challenge
from node.sim.economy.blocks import SimLedger
from node.sim.economy.parties import Party, SimAccount
from proto_specs.limits import FINGERPRINT_DIMENSIONS
from proto_specs.types.calls import CommitVerdict, Outcome, RevealVerdict
from proto_specs.types.verdict import EMPTY_FINGERPRINT, VerdictPreimage, compute_commitment

PASS_PPB = 1_000
FAIL_PPB = 900_000_000


@dataclass(frozen=True, slots=True)
class DrawnWindow:
    """What is there to see for whoever looks at a challenged window.

    `is_bad` is the truth, `is_seen` whether a recomputation finds it out, `opens` whether the worker shows it, `cost`
    what a recomputation costs in nmyl. `worker` is the account of the one that is judged.
    """

    worker: bytes
    is_bad: bool
    is_seen: bool
    opens: bool
    cost: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a verifier commits to. `author` names whose fingerprint it is: equal authors have equal ones."""

    outcome: Outcome
    author: str = ""


class VerifierPolicy:
    """Decides what to say. The honest one recomputes; others override."""

    def judge(self, window: DrawnWindow, party: Party) -> Finding | None:
        """The finding, at the party's expense; None says nothing."""
        if not window.opens:
            return Finding(Outcome.UNAVAILABLE)
        party.spend("checks", window.cost)
        return Finding(Outcome.FAIL if window.is_seen else Outcome.PASS, "computed")


class LazyVerifier(VerifierPolicy):
    """Computes nothing and says PASS with a fingerprint it made up; `asks` to hear at least whether it opens."""

    def __init__(self, name: str) -> None:
        self._name = name

    def judge(self, window: DrawnWindow, party: Party) -> Finding | None:
        """PASS, unless the worker does not open: to see that costs nothing."""
        return Finding(Outcome.PASS, self._name) if window.opens else Finding(Outcome.UNAVAILABLE)


class SilentVerifier(VerifierPolicy):
    """Says nothing, ever."""

    def judge(self, window: DrawnWindow, party: Party) -> Finding | None:
        """Nothing."""
        return None


class FriendlyVerifier(VerifierPolicy):
    """Passes its friends' work unseen, with a fingerprint that all friends know, and judges others' honestly."""

    def __init__(self, friends: set[bytes]) -> None:
        self._friends = friends

    def judge(self, window: DrawnWindow, party: Party) -> Finding | None:
        """PASS for a friend. Where the work is right it is recomputed, so that the fingerprint is."""
        if window.worker not in self._friends:
            return super().judge(window, party)
        return Finding(Outcome.PASS, "friends" if window.is_bad else "computed")


@dataclass(slots=True, eq=False)
class _Seat:
    challenge: bytes
    account: bytes
    reveal: RevealVerdict
    revealed_height: int | None = None


Look = Callable[[bytes, Challenge], DrawnWindow]
"""(challenge id, challenge) -> what is there to see."""


class CommitteeDuty:
    """All verifiers' duty. `tip` is what a verdict's transaction offers a proposer."""

    def __init__(self, ledger: SimLedger, look: Look) -> None:
        self._ledger, self._look = ledger, look
        self._members: dict[bytes, tuple[SimAccount, Party, VerifierPolicy]] = {}
        self._seats: list[_Seat] = []
        self.tip = 0

    def join(self, account: SimAccount, party: Party, policy: VerifierPolicy) -> None:
        """A verifier from now on."""
        self._members[account.account] = (account, party, policy)

    def take_seats(self, challenge_id: bytes) -> None:
        """A committee is drawn: each of its members that sit now looks, and commits."""
        challenge = inference.challenges.read(self._ledger.state, challenge_id)
        if challenge is None or challenge.outcome is not None:
            return
        window = self._look(challenge_id, challenge)
        for member in challenge.committee[challenge.round_start :]:
            found = self._members.get(member.verifier)
            if found is None:
                continue
            account, party, policy = found
            finding = policy.judge(window, party)
            if finding is not None:
                self._commit(challenge_id, challenge, account.account, finding)

    def go_on(self) -> None:
        """After each block: reveal what may be revealed."""
        left: list[_Seat] = []
        for seat in self._seats:
            challenge = inference.challenges.read(self._ledger.state, seat.challenge)
            is_over = challenge is None or challenge.outcome is not None
            if is_over or inference.reveals.read(self._ledger.state, seat.challenge, seat.account) is not None:
                continue
            assert challenge is not None
            left.append(seat)
            if seat.revealed_height is None and self._may_reveal(challenge):
                seat.revealed_height = self._ledger.height
                self._ledger.submit(seat.account, seat.reveal, self.tip, is_verdict=True)
        self._seats = left

    def _may_reveal(self, challenge: Challenge) -> bool:
        seats = len(challenge.committee) - challenge.round_start
        return challenge.committed >= seats or self._ledger.height >= challenge.commit_deadline

    def _commit(self, challenge_id: bytes, challenge: Challenge, account: bytes, finding: Finding) -> None:
        is_compared = finding.outcome in (Outcome.PASS, Outcome.FAIL)
        distance = {Outcome.PASS: PASS_PPB, Outcome.FAIL: FAIL_PPB}.get(finding.outcome, 0)
        fingerprint = (
            make_fingerprint(challenge_id, challenge.beacon, finding.author) if is_compared else EMPTY_FINGERPRINT
        )
        salt = hashlib.blake2b(challenge_id + account, digest_size=32).digest()
        preimage = VerdictPreimage(challenge_id, account, finding.outcome, distance, 0, fingerprint, salt)
        reveal = RevealVerdict(challenge_id, finding.outcome, distance, 0, fingerprint, salt)
        commit = CommitVerdict(challenge_id, compute_commitment(preimage))
        self._ledger.submit(account, commit, self.tip, is_verdict=True)
        self._seats.append(_Seat(challenge_id, account, reveal))


def make_fingerprint(challenge: bytes, beacon: bytes, author: str) -> bytes:
    """What the author computes, or makes up, for this round: numbers that agree with no other author's."""
    seed = hashlib.blake2b(challenge + beacon + author.encode(), digest_size=32).digest()
    stream = hashlib.shake_128(seed).digest(2 * FINGERPRINT_DIMENSIONS)
    pairs = (stream[at : at + 2] for at in range(0, len(stream), 2))
    return b"".join(int.from_bytes(one, "little", signed=True).to_bytes(4, "little", signed=True) for one in pairs)
