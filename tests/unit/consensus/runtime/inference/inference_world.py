"""A model, three workers, a client and verifiers on a test chain: orders, vouchers, roots, verdicts to measure."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, TypeVar

from benchmarks.manifests import build_manifest
from consensus.runtime.inference.events import ChallengeDrawn
from consensus.runtime.receipts import Receipt
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import FINGERPRINT_BYTES
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.manifest import Manifest, ServiceClass, compute_model_id
from proto_specs.types.request import (
    Order,
    PathStage,
    SignedOrder,
    SignedStageRoots,
    StageRoots,
    Voucher,
    compute_positions,
    compute_request_id,
    compute_session_id,
    compute_windows,
    sign_order,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.verdict import VerdictPreimage, compute_commitment
from tests.unit.consensus.runtime.chain import Chain

PRICE = 1_000
LAYERS = 6
THRESHOLD_PPB = build_manifest(LAYERS).profile.threshold_ppb
BOND = 1_000 * NMYL_PER_MYL
DEPOSIT = 10 * NMYL_PER_MYL
WORKER_NAMES = ("bob", "charlie", "dave")
FINGERPRINT = bytes([1, 2, 3, 0] * (FINGERPRINT_BYTES // 4))
"""What every honest verifier of these tests computes."""
GROSS = 2 * (500 * 40 + 1000 * 60)
"""What one stage of the usual request costs in nMYL: burned, for verification, and net for the worker."""
BURNED = GROSS * 50 // 1000
VERIFICATION = GROSS * 100 // 1000
NET = GROSS - BURNED - VERIFICATION
REQUEST_PRICE = 3 * GROSS
SLICE = 1_000_000
"""What each order may cost at most, of the deposit."""

E = TypeVar("E")


def pick(events: Any, kind: type[E]) -> list[E]:
    """The events of one kind."""
    return [one for one in events if isinstance(one, kind)]


def build_spec(validators: tuple[str, ...] = ("alice",), **params: Any) -> ChainSpec:
    """The dev spec without emission, audits and clients' bonds, unless these are among `params`, which it changes."""
    spec = build_dev_spec(validators)
    staking = replace(spec.params.staking, emission_per_epoch=params.pop("emission_per_epoch", 0))
    least = max(params.get("fails_min", 1), spec.params.inference.committee_members_min)
    plain = {"audits_per_epoch": 0, "client_bond_permille": 0, "committee_members_min": least}
    inference = replace(spec.params.inference, **{**plain, **params})
    return replace(spec, params=replace(spec.params, staking=staking, inference=inference))


class World:
    """A chain with everything in place to settle requests: one session of `client` is open."""

    def __init__(
        self,
        validators: tuple[str, ...] = ("alice",),
        requests_max: int = 100,
        manifest: Manifest | None = None,
        **params: Any,
    ) -> None:
        self.chain = Chain(build_spec(validators, **params), proposer=validators[0])
        self.client = get_dev_identity("client")
        self.session_key = get_dev_identity("session").account_key
        self.workers = [get_dev_identity(name) for name in WORKER_NAMES]
        self.verifiers = [get_dev_identity(name) for name in validators]
        manifest = manifest or build_manifest(LAYERS)
        self.model = compute_model_id(manifest)
        self.chain.expect_ok(self.client, calls.RegisterModel(encode(manifest)))
        for index, worker in enumerate(self.workers):
            self.chain.expect_ok(worker, self.register_worker(worker, 2 * index, 2 * index + 2))
        for verifier in self.verifiers:
            self.chain.expect_ok(verifier, calls.RegisterVerifier(self.model))
        self.session = self.open_session(requests_max=requests_max)

    def register_worker(self, who: DevIdentity, start: int, end: int, **fields: Any) -> calls.RegisterWorker:
        """The call that bonds a worker."""
        call = calls.RegisterWorker(
            model=self.model,
            start=start,
            end=end,
            bond=BOND,
            worker_key=who.worker_key.public_key,
            key_proof=who.worker_key.sign(Tag.KEY_PROOF_SIGN, who.account),
            peer_id="12D3KooW" + who.name,
            addresses=("/ip4/127.0.0.1/tcp/1",),
            prefill_price=PRICE // 2,
            decode_price=PRICE,
        )
        return replace(call, **fields)

    def open_session(self, **fields: Any) -> bytes:
        """Open a session of the client; returns its id."""
        call = calls.OpenSession(self.model, self.session_key.public_key, PRICE, DEPOSIT, 100)
        receipt = self.chain.expect_ok(self.client, replace(call, **fields))
        opened = receipt.events[0]
        nonce = self.chain.sign(self.client, call).body.nonce - 1
        assert opened.session == compute_session_id(self.client.account, nonce)
        return opened.session

    def order(self, sequence: int = 0, **fields: Any) -> SignedOrder:
        """A signed order over the three workers; `fields` replace the order's before it is signed."""
        path = tuple(
            PathStage(worker.worker_key.public_key, 2 * index, 2 * index + 2, PRICE // 2, PRICE)
            for index, worker in enumerate(self.workers)
        )
        order = Order(
            genesis=self.chain.genesis.hash,
            session=self.session,
            sequence=sequence,
            slice_start=sequence * SLICE,
            slice_end=(sequence + 1) * SLICE,
            model=self.model,
            service_class=ServiceClass.EXACT,
            prompt_hash=hash_tagged(Tag.PROMPT, b"prompt"),
            prompt_tokens=40,
            tokens_max=100,
            sampling=SamplingParams(0, 0, 1000, 7),
            path=path,
        )
        return sign_order(replace(order, **fields), self.session_key)

    def settle(self, sequence: int = 0, tokens: int = 60, final: bool = True, **fields: Any) -> calls.Settle:
        """The honest settlement of a request; `fields` replace the order's."""
        return self.settle_order(self.order(sequence, **fields), tokens, final)

    def settle_order(self, signed: SignedOrder, tokens: int = 60, final: bool = True) -> calls.Settle:
        """The honest settlement of a signed order."""
        request = compute_request_id(signed.order)
        voucher = Voucher(request, tokens, hash_tagged(Tag.TOKENS, b"tokens") if tokens else bytes(32), final)
        return calls.Settle(
            signed,
            sign_voucher(voucher, self.session_key),
            self.stage_roots(signed.order, compute_positions(signed.order.prompt_tokens, tokens)),
        )

    def stage_roots(self, order: Order, positions: int) -> tuple[SignedStageRoots, ...]:
        """Every stage's signed roots: what one sends, the next receives."""
        request = compute_request_id(order)
        boundaries = [hash_tagged(Tag.LEAF, request + bytes([index])) for index in range(len(order.path) + 1)]
        signed = []
        for index in range(len(order.path)):
            roots = StageRoots(
                request, index, compute_windows(positions), positions, boundaries[index], boundaries[index + 1]
            )
            signed.append(sign_stage_roots(roots, self.workers[index].worker_key))
        return tuple(signed)

    def settle_and_draw(self, call: calls.Settle) -> list[ChallengeDrawn]:
        """Settle (by the first worker), go to the draw, return the challenges."""
        self.chain.expect_ok(self.workers[0], call)
        events = self.chain.skip(2)
        return [one for one in events if isinstance(one, ChallengeDrawn)]

    def verdict(
        self,
        challenge: bytes,
        verifier: DevIdentity,
        outcome: int,
        distance_ppb: int | None = None,
        fingerprint: bytes | None = None,
        token_mismatches: int = 0,
    ) -> tuple[calls.CommitVerdict, calls.RevealVerdict]:
        """A commitment and its reveal, with the numbers an honest verifier of that outcome would have."""
        is_compared = outcome in (Outcome.PASS, Outcome.FAIL)
        if distance_ppb is None:
            distance_ppb = {Outcome.PASS: 1_000, Outcome.FAIL: 900_000_000}.get(Outcome(outcome), 0)
        if fingerprint is None:
            fingerprint = FINGERPRINT if is_compared else bytes(FINGERPRINT_BYTES)
        salt = hash_tagged(Tag.VERDICT, verifier.account)
        preimage = VerdictPreimage(
            challenge, verifier.account, outcome, distance_ppb, token_mismatches, fingerprint, salt
        )
        reveal = calls.RevealVerdict(challenge, outcome, distance_ppb, token_mismatches, fingerprint, salt)
        return calls.CommitVerdict(challenge, compute_commitment(preimage)), reveal

    def judge(self, challenge: bytes, verifier: DevIdentity, outcome: int, **fields: Any) -> Receipt:
        """Commit and reveal alone on a committee of one; returns the reveal's receipt."""
        commit, reveal = self.verdict(challenge, verifier, outcome, **fields)
        self.chain.expect_ok(verifier, commit)
        return self.chain.expect_ok(verifier, reveal)
