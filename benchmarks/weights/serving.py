"""The setting of inference: a model split among as many workers as a path allows, and an open session."""

from __future__ import annotations

from benchmarks.manifests import build_manifest
from benchmarks.weights.rig import Rig
from benchmarks.weights.worlds import MYL, VALIDATORS, build_spec, get_payer, get_validator
from consensus.runtime.inference.state import SEQUENCES_CHUNK
from genesis.dev import DevIdentity, get_dev_identity
from proto_specs.codec import encode
from proto_specs.hashing import Tag, hash_tagged
from proto_specs.limits import (
    ADDRESS_BYTES_MAX,
    FINGERPRINT_BYTES,
    LOGIT_BIAS_MAX,
    LOGPROBS_MAX,
    PEER_ID_BYTES_MAX,
    STATEMENT_REQUESTS_MAX,
    STATEMENT_SPANS_MAX,
    STOP_BYTES_MAX,
    STOPS_MAX,
    WORKER_ADDRESSES_MAX,
)
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.manifest import ServiceClass, compute_model_id
from proto_specs.types.request import (
    Order,
    PathStage,
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
from proto_specs.types.sampling import GrammarKind, SamplingParams, TokenBias, make_grammar
from proto_specs.types.statement import (
    SignedStatement,
    Span,
    Statement,
    sign_statement_as_client,
    sign_statement_as_worker,
)
from proto_specs.types.verdict import VerdictPreimage, compute_commitment

CLIENT = get_payer(100)
SESSION_KEY = get_dev_identity("session").account_key
PRICE = 1_000
BOND = 1_000 * MYL
PROMPT_TOKENS, TOKENS = 40, 60
RULES = SamplingParams(
    temperature_milli=1_000,
    top_k=50,
    top_p_milli=900,
    seed=7,
    min_p_milli=10,
    repetition_penalty_milli=1_100,
    presence_penalty_milli=-100,
    frequency_penalty_milli=100,
    logit_bias=tuple(TokenBias(token, -100_000 - token) for token in range(LOGIT_BIAS_MAX)),
    stop=tuple(bytes([number]) * STOP_BYTES_MAX for number in range(STOPS_MAX)),
    grammar=make_grammar(GrammarKind.LARK, b"start: /.*/"),
    logprobs=LOGPROBS_MAX,
    prompt_logprobs=True,
)
"""As many rules as an order may have: they are decoded, checked and hashed with it."""
_PEER_ID = "1" * PEER_ID_BYTES_MAX
_ADDRESSES = ("/" + "a" * (ADDRESS_BYTES_MAX - 1),) * WORKER_ADDRESSES_MAX


class Serving:
    """A worker for each layer, each with its own operator; `verifiers` validators verify; a session is open.

    Nobody is audited, unless `params` say so: audits are of no call, and fall due for ever.
    """

    def __init__(self, stages: int, verifiers: int = VALIDATORS, requests_max: int = 1, **params: int) -> None:
        self.rig = Rig(build_spec(**{"audits_per_epoch": 0, **params}))
        self.workers = [get_payer(number) for number in range(stages)]
        manifest = build_manifest(stages)
        self.model = compute_model_id(manifest)
        self.rig.block((CLIENT, calls.RegisterModel(encode(manifest))))
        self.rig.block(*((one, self.build_worker(one, index)) for index, one in enumerate(self.workers)))
        known = (get_validator(number) for number in range(verifiers))
        self.rig.block(*((one, calls.RegisterVerifier(self.model)) for one in known))
        self.session = compute_session_id(CLIENT.account, self.rig.read_nonce(CLIENT))
        self.rig.block((CLIENT, self.build_session(requests_max)))

    def build_session(self, requests_max: int = 1) -> calls.OpenSession:
        """The call that opens a session, which closes by itself after `requests_max` requests."""
        return calls.OpenSession(self.model, SESSION_KEY.public_key, PRICE, 100 * MYL, requests_max)

    def build_worker(self, who: DevIdentity, index: int, addresses: int = WORKER_ADDRESSES_MAX) -> calls.RegisterWorker:
        """The call that bonds a worker for a layer."""
        return calls.RegisterWorker(
            model=self.model,
            start=index,
            end=index + 1,
            bond=BOND,
            worker_key=who.worker_key.public_key,
            key_proof=who.worker_key.sign(Tag.KEY_PROOF_SIGN, who.account),
            peer_id=_PEER_ID,
            addresses=_ADDRESSES[:addresses],
            prefill_price=PRICE // 2,
            decode_price=PRICE,
        )

    def build_update(self, who: DevIdentity, addresses: int) -> calls.UpdateWorker:
        """The call that gives a worker new addresses."""
        return calls.UpdateWorker(
            who.worker_key.public_key, _PEER_ID[1:], _ADDRESSES[:addresses], PRICE // 2, PRICE + 1
        )

    def build_settlement(self) -> calls.Settle:
        """The settlement of the session's first request, over all workers."""
        path = self._build_path()
        order = Order(
            genesis=self.rig.genesis.hash,
            session=self.session,
            sequence=0,
            slice_start=0,
            slice_end=100 * MYL,
            model=self.model,
            service_class=ServiceClass.EXACT,
            prompt_hash=hash_tagged(Tag.PROMPT, b"prompt"),
            prompt_tokens=PROMPT_TOKENS,
            tokens_max=100,
            sampling=RULES,
            path=path,
        )
        request = compute_request_id(order)
        positions = compute_positions(PROMPT_TOKENS, TOKENS)
        boundaries = [hash_tagged(Tag.LEAF, request + bytes([index])) for index in range(len(path) + 1)]
        roots = tuple(
            sign_stage_roots(
                StageRoots(
                    request, index, compute_windows(positions), positions, boundaries[index], boundaries[index + 1]
                ),
                worker.worker_key,
            )
            for index, worker in enumerate(self.workers)
        )
        voucher = Voucher(request, TOKENS, hash_tagged(Tag.TOKENS, b"tokens"), True)
        return calls.Settle(sign_order(order, SESSION_KEY), sign_voucher(voucher, SESSION_KEY), roots)

    def build_statement(self, chunks: int) -> calls.SettleStatement:
        """A statement over all workers, of as many requests as fit into the chunks of numbers, but two.

        Numbers and slices have as many gaps as there may be. The chain never sees the requests, so there are none.
        """
        gaps = STATEMENT_SPANS_MAX - 1
        numbers = tuple(Span(2 * one, 2 * one + 1) for one in range(gaps))
        numbers = (*numbers, Span(2 * gaps, min(chunks * SEQUENCES_CHUNK - 2, STATEMENT_REQUESTS_MAX)))
        requests = sum(one.end - one.start for one in numbers)
        slices = tuple(Span(2 * one, 2 * one + 1) for one in range(gaps))
        statement = Statement(
            genesis=self.rig.genesis.hash,
            session=self.session,
            path=self._build_path(),
            requests=requests,
            prompt_tokens=requests,
            tokens=requests,
            positions=requests,
            sequences=numbers,
            slices=(*slices, Span(2 * gaps, 100 * MYL)),
            root=hash_tagged(Tag.STATEMENT_NODE, b"root"),
        )
        signatures = tuple(sign_statement_as_worker(statement, one.worker_key) for one in self.workers)
        client_signature = sign_statement_as_client(statement, SESSION_KEY)
        return calls.SettleStatement(SignedStatement(statement, client_signature, signatures))

    def _build_path(self) -> tuple[PathStage, ...]:
        return tuple(
            PathStage(worker.worker_key.public_key, index, index + 1, PRICE // 2, PRICE)
            for index, worker in enumerate(self.workers)
        )


def build_verdict(challenge: bytes, who: DevIdentity, place: int) -> tuple[calls.CommitVerdict, calls.RevealVerdict]:
    """A verdict that passes. All fingerprints differ, so that every two must be compared."""
    fingerprint = (10**6 + place).to_bytes(4, "little") * (FINGERPRINT_BYTES // 4)
    preimage = VerdictPreimage(challenge, who.account, Outcome.PASS, 1_000, 0, fingerprint, bytes(32))
    reveal = calls.RevealVerdict(challenge, Outcome.PASS, 1_000, 0, fingerprint, bytes(32))
    return calls.CommitVerdict(challenge, compute_commitment(preimage)), reveal
