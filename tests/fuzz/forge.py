"""Forges transactions: wrong in what they say, right in who says it, so that it is the runtime that has to refuse."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from typing import Any

from consensus.runtime.balances.state import read_account
from consensus.runtime.inference import state as inference
from consensus.state.reader import StateReader
from genesis.dev import get_dev_identity
from proto_specs.hashing import Tag
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.chain import Transaction, TransactionBody
from proto_specs.types.request import SignedStageRoots, compute_request_id, sign_order, sign_stage_roots, sign_voucher
from proto_specs.types.verdict import VerdictPreimage, compute_commitment
from tests.fuzz.scene import Scene
from tests.fuzz.values import Changer
from tests.unit.consensus.runtime.inference.inference_world import FINGERPRINT


class Forger:
    """Makes transactions that are wrong in what they say and right in who says it."""

    def __init__(self, scene: Scene, rng: random.Random) -> None:
        self._scene = scene
        self._rng = rng
        self._changer = Changer(rng, scene.ids)

    def forge(self, state: StateReader, height: int, signer: bytes, call: Any, waiting: Counter[bytes]) -> Transaction:
        """A transaction for block `height + 1`, mostly with one thing wrong; `waiting` counts those before it."""
        rng, scene = self._rng, self._scene
        if rng.random() < 0.6:
            call = self.resign(signer, self._changer.change(call, calls.Call))
        if rng.random() < 0.08:
            signer = rng.choice(list(scene.people))
        who = scene.people.get(signer) or get_dev_identity("bob")
        nonce = read_account(state, who.account).nonce + waiting[who.account]
        if rng.random() < 0.04:
            nonce = rng.choice((nonce - 1, nonce + 1, nonce + 63, nonce + 70, 0, (1 << 64) - 1))
        tip = rng.choice((0, 1, 10**6, 10**15, 1 << 63, (1 << 64) - 1)) if rng.random() < 0.06 else rng.randrange(100)
        birth = period = 0
        if rng.random() < 0.1:
            birth = rng.choice((height, max(height - 3, 0), height + 1, 0, 1 << 62, (1 << 64) - 1))
            period = rng.choice((1, 4, 64, 4_096, 4_097, (1 << 32) - 1))
        body = TransactionBody(who.account, max(nonce, 0) % (1 << 64), call, tip, birth, period)
        made = scene.sign(body, who, scene.find_hash(birth) if period else None)
        if rng.random() < 0.02:
            made = replace(made, signature=rng.choice((bytes(64), made.signature[:63] + b"\xff", rng.randbytes(64))))
        return made

    def fit(self, state: StateReader) -> tuple[bytes, Any] | None:
        """Somebody who could call something about a session, request or challenge that exists in `state`."""
        rng = self._rng
        sessions = list(inference.sessions.iterate(state))
        challenges = [one for one in inference.challenges.iterate(state) if one[1].outcome is None]
        if challenges and rng.random() < 0.6:
            (key,), challenge = rng.choice(challenges)
            return self._fit_verdict(state, key, challenge)
        if not sessions:
            return None
        (session,), found = rng.choice(sessions)
        if rng.random() < 0.2:
            amount = rng.choice((0, 1, 10**9, 10**18, (1 << 64) - 1))
            call = rng.choice((calls.CloseSession(session), calls.TopUpSession(session, amount)))
            return found.client, call
        settlements = self._scene.settlements
        if not settlements:
            return None
        made = rng.choice(settlements)
        order = replace(made.order.order, session=session, sequence=rng.randrange(40))
        if rng.random() < 0.5:
            start, top = rng.randrange(found.promisable + 1), (1 << 64) - 1
            end = rng.choice((found.promisable, start + 10**6))
            order = replace(order, slice_start=min(start, top), slice_end=min(end, top))
        made = self._resign_settlement(replace(made, order=replace(made.order, order=order)))
        worker = self._scene.by_key.get(rng.choice(order.path).worker) if order.path else None
        return (worker.account if worker else found.client), made

    def _fit_verdict(self, state: StateReader, key: bytes, challenge: Any) -> tuple[bytes, Any]:
        """What a committee's member commits to, or the reveal of just that."""
        rng = self._rng
        verifier = rng.choice(challenge.committee).verifier
        outcome = (key[0] + verifier[0]) % 5
        fingerprint = FINGERPRINT if outcome <= calls.Outcome.FAIL else bytes(FINGERPRINT_BYTES)
        distance_ppb = {0: 1_000, 1: 900_000_000}.get(outcome, 0)
        preimage = VerdictPreimage(key, verifier, outcome, distance_ppb, 0, fingerprint, key)
        if inference.commitments.read(state, key, verifier) is None:
            return verifier, calls.CommitVerdict(key, compute_commitment(preimage))
        return verifier, calls.RevealVerdict(key, outcome, distance_ppb, 0, fingerprint, key)

    def make(self) -> Any:
        """A call made of nothing but boundaries and known ids."""
        return self._changer.make(calls.Call)

    def resign(self, signer: bytes, call: Any) -> Any:
        """Signatures inside a call made right again, so that what was changed is looked at."""
        rng, scene = self._rng, self._scene
        if rng.random() < 0.15:
            return call
        match call:
            case calls.RegisterWorker(worker_key=key) if key in scene.by_key:
                proof = scene.by_key[key].worker_key.sign(Tag.KEY_PROOF_SIGN, signer)
                return replace(call, key_proof=proof)
            case calls.RegisterValidator(consensus_key=key) if key in scene.by_key:
                proof = scene.by_key[key].consensus_key.sign(Tag.KEY_PROOF_SIGN, signer)
                return replace(call, key_proof=proof)
            case calls.Settle():
                return self._resign_settlement(call)
        return call

    def _resign_settlement(self, call: calls.Settle) -> calls.Settle:
        order, key = call.order.order, self._scene.session_key
        request = compute_request_id(order)
        roots: list[SignedStageRoots] = []
        for index, one in enumerate(call.stage_roots):
            worker = order.path[index].worker if index < len(order.path) else b""
            if worker in self._scene.by_key:
                one = sign_stage_roots(replace(one.roots, request=request), self._scene.by_key[worker].worker_key)
            roots.append(one)
        voucher = replace(call.voucher.voucher, request=request)
        return calls.Settle(sign_order(order, key), sign_voucher(voucher, key), tuple(roots))
