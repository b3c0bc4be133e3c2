"""From an authenticated opening to a verdict: recompute one shard, compare, fingerprint. Blocking: for a thread."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass

from inference.decoding.chooser import TokenChooser
from inference.decoding.source import ChooserSource
from inference.engine.audit_inputs import make_audit_inputs
from inference.engine.cuda import require_exact
from inference.engine.device import CPU, Device
from inference.engine.engine import load_session
from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, Rows
from inference.engine.verify import SampledTokens, VerificationResult, verify_window
from inference.engine.wire_dtype import decode_rows, decode_tokens
from inference.errors import DecodingError, InputsRefusable, UnjudgeableError, WireDtypeError
from inference.model.graph.provider import Provider
from inference.model.graph.shard import ShardRange
from inference.model.store import ShardStore
from inference.serving.opening import AuthenticOpening
from proto_specs.types.audit import AUDIT_POSITIONS, AuditAnswer
from proto_specs.types.calls import Outcome
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.verdict import EMPTY_FINGERPRINT

logger = logging.getLogger("myelin.verify")

DISTANCE_NOT_FINITE_PPB = 10**12


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict before it is bound to challenge, verifier and salt."""

    outcome: Outcome
    distance_ppb: int
    token_mismatches: int
    fingerprint: bytes


UNAVAILABLE = Judgement(Outcome.UNAVAILABLE, 0, 0, EMPTY_FINGERPRINT)
INCONCLUSIVE = Judgement(Outcome.INCONCLUSIVE, 0, 0, EMPTY_FINGERPRINT)
"""Nothing follows: from what the worker was given, or because this verifier cannot compute it."""
NOT_ROWS = Judgement(Outcome.FAIL, DISTANCE_NOT_FINITE_PPB, 0, EMPTY_FINGERPRINT)
"""The worker signed as its output what is no finite rows of the leaf's shape, so it matches nothing."""


class Judge:
    """Keeps the shard that it judged last loaded, and no other: a verifier needs the memory of one shard."""

    def __init__(self, store: ShardStore, device: Device = CPU) -> None:
        self._store = store
        self._device = device
        self._choosers: tuple[bytes, ChooserSource] | None = None
        self._loaded: tuple[tuple[bytes, int, int], ShardSession] | None = None
        self._verified: set[tuple[bytes, int, int]] = set()

    def require(self, model: bytes) -> None:
        """Raises ModelError, with the reason, where no shard of a stored model could be judged here."""
        manifest = self._store.load_manifest(model)
        if self._device.provider is Provider.CUDA:
            require_exact(self._device, manifest)
        ShardRange(manifest, 0, manifest.architecture.layers).check()

    def judge(
        self, opening: AuthenticOpening, model: bytes, manifest: Manifest, layers: tuple[int, int], seed: bytes
    ) -> Judgement:
        """A verdict on what the opening shows, whatever that is. UNAVAILABLE for inputs no worker may sign for: this
        one did, so that nothing could be judged; another one sent them, so it does not fail.

        Raises StoreError when this verifier lacks the shard, or the tokenizer that the order's rules read, EngineError
        when it cannot run the shard: the fault is its own.
        """
        session = self._get_session(model, *layers)
        wire, hidden = WireDtype(manifest.wire_dtype), manifest.architecture.hidden
        claimed = _read_claimed(opening.output, wire, hidden, opening.positions - opening.window_start)
        if claimed is None:
            return NOT_ROWS
        try:
            inputs: Rows = (
                decode_tokens(opening.inputs, manifest.architecture.vocab)
                if session.shard.is_first
                else decode_rows(opening.inputs, wire, hidden)
            )
        except WireDtypeError as error:
            return _note_refusable(error)
        if len(inputs) != opening.positions:
            return _note_refusable(f"{opening.positions} positions were signed, rows of {len(inputs)} came")
        sampled = self._make_sampled(opening, model, manifest) if session.shard.is_last else None
        try:
            found = verify_window(session, inputs, opening.window_start, claimed, manifest.profile, seed, sampled)
        except InputsRefusable as error:
            return _note_refusable(error)
        except UnjudgeableError as error:
            return _note_unjudgeable(error)
        return _make_judgement(found)

    def judge_audit(self, answer: AuditAnswer, model: bytes, manifest: Manifest, seed: bytes) -> Judgement:
        """As `judge`, of an audit's answer: the inputs are drawn from its subject."""
        session = self._get_session(model, answer.start, answer.end)
        wire, hidden = WireDtype(manifest.wire_dtype), manifest.architecture.hidden
        claimed = _read_claimed(answer.payload, wire, hidden, AUDIT_POSITIONS)
        if claimed is None:
            return NOT_ROWS
        try:
            inputs = make_audit_inputs(self._store, model, manifest, answer.start, answer.leaf.request)
            found = verify_window(session, inputs, 0, claimed, manifest.profile, seed)
        except UnjudgeableError as error:
            return _note_unjudgeable(error)
        return _make_judgement(found)

    def _make_sampled(self, opening: AuthenticOpening, model: bytes, manifest: Manifest) -> SampledTokens:
        """The claimed tokens and the rules. Rules that nobody can follow are the worker's fault: it signed tokens."""
        if self._choosers is None or self._choosers[0] != model:
            self._choosers = model, ChooserSource(self._store, model, manifest)
        chooser: TokenChooser | None = None
        with contextlib.suppress(DecodingError):
            order, prompt = opening.order, opening.prompt
            known = prompt[: order.answer_start], opening.grammar, prompt[order.answer_start :]
            chooser = self._choosers[1].make(order.sampling, *known)
        return SampledTokens(opening.tokens, opening.sampled_from, chooser, opening.drawn)

    def _get_session(self, model: bytes, start: int, end: int) -> ShardSession:
        key = (model, start, end)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = None  # its memory is free before the next one is loaded
            is_new = key not in self._verified  # hashing takes as long as loading: once in a process
            self._loaded = key, load_session(self._store, model, start, end, 1, is_new, self._device)
            self._verified.add(key)
        return self._loaded[1]


def _read_claimed(output: bytes, wire: WireDtype, hidden: int, count: int) -> Hidden | None:
    """The window's rows that the accused signed as its output; None when these bytes are not so many finite rows."""
    try:
        rows = decode_rows(output, wire, hidden)
    except WireDtypeError:
        return None
    return rows if len(rows) == count else None


def _make_judgement(found: VerificationResult) -> Judgement:
    outcome = Outcome.PASS if found.ok else Outcome.FAIL
    return Judgement(outcome, found.distance_ppb, len(found.token_mismatches), found.projection)


def _note_refusable(reason: object) -> Judgement:
    logger.warning("a worker signed for inputs that it had to refuse: %s", reason)
    return UNAVAILABLE


def _note_unjudgeable(reason: object) -> Judgement:
    logger.warning("a window cannot be judged by anybody: %s", reason)
    return INCONCLUSIVE
