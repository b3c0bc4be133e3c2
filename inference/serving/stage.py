"""One stage's part in one request, sans-IO: frames and results in, effects out. Knows no stream, clock or array.

The story: rows come in over boundary s, the shard computes them, rows go out over boundary s+1. Behind the rows follow
the leaves: the sender's OUTPUT signature, our check against the bytes that came, our INPUT signature, and only then our
own OUTPUT leaf. When generation ends every stage signs the roots over its two boundaries, in order of the path; the
last one settles. See proto_specs/inference.md for the frames in time.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.events import (
    Compute,
    Computed,
    Finished,
    GiveUp,
    Retain,
    StageEffect,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
)
from inference.serving.record import RequestRecord
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import UNVOUCHED_WINDOWS_MAX, WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import (
    Leaf,
    SignedLeaf,
    SignedOrder,
    SignedStageRoots,
    SignedVoucher,
    StageRoots,
    compute_positions,
    compute_prompt_hash,
    compute_request_id,
    compute_tokens_hash,
    compute_windows,
    is_input_signed,
    is_output_signed,
    is_stage_roots_signed,
    is_voucher_signed,
    sign_input,
    sign_output,
    sign_stage_roots,
)
from proto_specs.types.wire import (
    Countersign,
    Failed,
    FailureCode,
    FinishReason,
    Frame,
    OutputLeaf,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)

TOKEN_BYTES = 4
_ROW_BYTES = {WireDtype.FP32: 4, WireDtype.FP16: 2, WireDtype.BF16: 2}


@dataclass(frozen=True, slots=True)
class StageSetup:
    """What a stage knows when it accepts a request; all of it checked before."""

    order: SignedOrder
    stage: int
    manifest: Manifest
    session_key: bytes
    worker_key: SigningKey


class StageRequest:
    """State of one request on one stage. `handle` takes a frame or a result and returns what to do, in order."""

    def __init__(self, setup: StageSetup) -> None:
        order = setup.order.order
        self._setup = setup
        self._order = order
        self.request = compute_request_id(order)
        self._stage = setup.stage
        self._is_first = setup.stage == 0
        self._is_last = setup.stage == len(order.path) - 1
        hidden = setup.manifest.architecture.hidden
        wire = WireDtype(setup.manifest.wire_dtype)
        self._row_bytes = TOKEN_BYTES if self._is_first else hidden * _ROW_BYTES[wire]
        in_width, in_dtype = (1, WireDtype.TOKEN) if self._is_first else (hidden, wire)
        out_width, out_dtype = (1, WireDtype.TOKEN) if self._is_last else (hidden, wire)
        self._input = BoundaryLog(self.request, self._stage, in_width, in_dtype)
        self._output = BoundaryLog(self.request, self._stage + 1, out_width, out_dtype)
        self._output_signatures: dict[int, bytes] = {}
        self._early_leaf: OutputLeaf | None = None
        self._positions_total: int | None = None
        self._is_fed = False
        self._upstream_roots: tuple[SignedStageRoots, ...] | None = () if self._is_first else None
        self._tokens = 0
        self._tokens_hash = ZERO_HASH
        self._tokens_hashes = {0: ZERO_HASH}
        self._voucher: SignedVoucher | None = None
        self._held: list[StageEffect] = []
        self._done = False

    @property
    def sender_key(self) -> bytes:
        """Who signs our input leaves as OUTPUT: the client's session key, or the worker before."""
        return self._setup.session_key if self._is_first else self._order.path[self._stage - 1].worker

    @property
    def receiver_key(self) -> bytes:
        """Who countersigns our output leaves: the worker after, or the client's session key."""
        return self._setup.session_key if self._is_last else self._order.path[self._stage + 1].worker

    @property
    def needs_client(self) -> bool:
        """Whether the client still owes this stage a signature; what is left after that goes on without it."""
        if self._done or not (self._is_first or self._is_last):
            return False
        if self._positions_total is None:
            return True
        windows = compute_windows(self._positions_total)
        is_fed = not self._is_first or self._input.signed == windows
        is_vouched = self._voucher is not None and self._voucher.voucher.tokens == self._tokens
        return not (is_fed and (not self._is_last or (is_vouched and self._output.signed == windows)))

    def handle(self, event: Frame | Computed) -> list[StageEffect]:
        """The effects of one event. A broken rule of the other side becomes `GiveUp`, never an exception."""
        if self._done:
            return []
        try:
            effects = self._dispatch(event)
            effects += self._close_windows()
            effects += self._try_finish()
        except BoundaryError as error:
            self._done = True
            return [GiveUp(FailureCode.BAD_INPUT, str(error))]
        if any(isinstance(one, GiveUp | Finished) for one in effects):
            self._done = True
        return effects

    def _dispatch(self, event: Frame | Computed) -> list[StageEffect]:
        match event:
            case Computed():
                return self._on_computed(event)
            case Rows():
                return self._on_rows(event)
            case Token():
                return self._on_token(event)
            case OutputLeaf():
                return self._on_leaf(event)
            case Countersign():
                return self._on_countersign(event)
            case VoucherFrame():
                return self._on_voucher(event.voucher)
            case RootsFrame():
                return self._on_roots(event.roots)
            case Failed():
                return [GiveUp(FailureCode.CANCELLED, event.message)]
            case _:
                raise BoundaryError(f"a stage takes no {type(event).__name__} frame in mid-request")

    # Rows in, rows out ------------------------------------------------------------------------------------------

    def _on_rows(self, rows: Rows) -> list[StageEffect]:
        if rows.boundary != self._stage:
            raise BoundaryError(f"rows of boundary {rows.boundary} at stage {self._stage}")
        end = rows.start + rows.count
        limit = self._order.prompt_tokens if self._is_first else self._compute_positions_max()
        if end > limit:
            raise BoundaryError(f"rows up to position {end} exceed the {limit} that were ordered")
        if len(rows.payload) != rows.count * self._row_bytes:
            raise BoundaryError(f"{rows.count} rows of {self._row_bytes} bytes, got {len(rows.payload)} bytes")
        return self._accept_rows(rows.start, rows.count, rows.payload)

    def _on_token(self, token: Token) -> list[StageEffect]:
        if not self._is_first:
            raise BoundaryError("only the first stage is fed tokens")
        if self._is_fed or self._input.positions != self._order.prompt_tokens + token.index:
            raise BoundaryError(f"token {token.index} is not due at position {self._input.positions}")
        if token.finish != FinishReason.NONE:
            self._is_fed = True
            self._positions_total = self._order.prompt_tokens + token.index
            return self._check_early_leaf()
        return self._accept_rows(self._input.positions, 1, token.token.to_bytes(TOKEN_BYTES, "little"))

    def _accept_rows(self, start: int, count: int, payload: bytes) -> list[StageEffect]:
        self._input.append(start, count, payload)
        if self._is_first and self._input.positions == self._order.prompt_tokens:
            self._validate_prompt()
        return [Compute(start, count, payload), *self._check_early_leaf()]

    def _validate_prompt(self) -> None:
        prompt = b"".join(self._input.get_payload(one) for one in range(self._input.windows))
        if compute_prompt_hash(prompt) != self._order.prompt_hash:
            raise BoundaryError("the prompt's tokens do not match the hash in the order")

    def _on_computed(self, done: Computed) -> list[StageEffect]:
        if not self._is_last:
            self._output.append(done.start, done.count, done.payload)
            frame = Rows(self.request, self._stage + 1, done.start, done.count, done.payload)
            return [ToDownstream(frame)]
        tokens = b"".join(one.to_bytes(TOKEN_BYTES, "little") for one in done.tokens)
        self._output.append(done.start, done.count, tokens, done.trace)
        effects: list[StageEffect] = []
        for token in done.tokens:
            effects += self._emit_token(token)
        return effects

    def _emit_token(self, token: int) -> list[StageEffect]:
        index = self._tokens
        self._tokens += 1
        self._tokens_hash = compute_tokens_hash(self._tokens_hash, token)
        self._tokens_hashes[self._tokens] = self._tokens_hash
        finish = FinishReason.NONE
        if token in self._setup.manifest.eos_tokens:
            finish = FinishReason.STOP
        elif self._tokens == self._order.tokens_max:
            finish = FinishReason.LENGTH
        if finish is not FinishReason.NONE:
            self._positions_total = compute_positions(self._order.prompt_tokens, self._tokens)
        frame = Token(self.request, index, token, finish)
        effects: list[StageEffect] = [ToClient(frame), ToFirst(frame)]
        if self._is_behind_vouchers():
            self._held += effects
            return []
        return effects

    def _is_behind_vouchers(self) -> bool:
        vouched = self._voucher.voucher.tokens if self._voucher else 0
        return self._tokens - vouched > (UNVOUCHED_WINDOWS_MAX + 1) * WINDOW_POSITIONS

    def _compute_positions_max(self) -> int:
        return compute_positions(self._order.prompt_tokens, self._order.tokens_max)

    # Leaves -----------------------------------------------------------------------------------------------------

    def _on_leaf(self, frame: OutputLeaf) -> list[StageEffect]:
        if frame.leaf.boundary != self._stage or frame.leaf.window != self._input.leaves:
            raise BoundaryError(f"leaf of boundary {frame.leaf.boundary}, window {frame.leaf.window} is not due")
        if self._early_leaf is not None:
            raise BoundaryError("a second leaf came before the first one's rows")
        self._early_leaf = frame
        return self._check_early_leaf()

    def _check_early_leaf(self) -> list[StageEffect]:
        """Countersign the leaf that waits, once its rows are all here. The client's may come before our tokens."""
        frame = self._early_leaf
        if frame is None:
            return []
        leaf, logged = frame.leaf, self._input.get_count(frame.leaf.window)
        is_partial = leaf.count < WINDOW_POSITIONS
        if logged < leaf.count or (is_partial and self._is_first and self._positions_total is None):
            if self._is_first:
                return []
            raise BoundaryError(f"leaf over {leaf.count} positions of window {leaf.window}, but {logged} came")
        self._early_leaf = None
        self._validate_leaf(leaf, frame.signature)
        if is_partial and not self._is_first:
            self._positions_total = leaf.start + leaf.count
        self._input.close_window(leaf.window, leaf)
        signature = sign_input(leaf, self._setup.worker_key)
        self._input.add_signed(leaf.window, SignedLeaf(leaf, frame.signature, signature))
        return [ToUpstream(Countersign(self.request, self._stage, leaf.window, signature))]

    def _validate_leaf(self, leaf: Leaf, signature: bytes) -> None:
        if leaf != self._input.make_leaf(leaf.window):
            raise BoundaryError(f"the leaf of window {leaf.window} does not cover the bytes that came")
        if not is_output_signed(leaf, self.sender_key, signature):
            raise BoundaryError(f"the leaf of window {leaf.window} is not signed by the sender")

    def _close_windows(self) -> list[StageEffect]:
        """Our own OUTPUT leaves, of every complete window whose input leaf we have countersigned."""
        effects: list[StageEffect] = []
        while (window := self._output.leaves) < self._input.leaves:
            if self._output.get_count(window) != self._input.get_count(window):
                break
            leaf = self._output.make_leaf(window)
            self._output.close_window(window, leaf)
            frame = OutputLeaf(leaf, sign_output(leaf, self._setup.worker_key))
            self._output_signatures[window] = frame.signature
            effects.append(ToClient(frame) if self._is_last else ToDownstream(frame))
        return effects

    def _on_countersign(self, frame: Countersign) -> list[StageEffect]:
        leaf = self._output.get_leaf(frame.window)
        if frame.boundary != self._stage + 1 or leaf is None:
            raise BoundaryError(f"countersignature of boundary {frame.boundary}, window {frame.window} is not due")
        if not is_input_signed(leaf, self.receiver_key, frame.signature):
            raise BoundaryError(f"the countersignature of window {frame.window} is not the receiver's")
        self._output.add_signed(frame.window, SignedLeaf(leaf, self._output_signatures[frame.window], frame.signature))
        return []

    # Money and the end ------------------------------------------------------------------------------------------

    def _on_voucher(self, voucher: SignedVoucher) -> list[StageEffect]:
        promised = voucher.voucher
        if not self._is_last or promised.request != self.request:
            raise BoundaryError("a voucher for another request or stage")
        if self._tokens_hashes.get(promised.tokens) != promised.tokens_hash:
            raise BoundaryError(f"the voucher's hash over {promised.tokens} tokens is not of the tokens sent")
        if self._voucher is not None and promised.tokens < self._voucher.voucher.tokens:
            raise BoundaryError("a voucher for fewer tokens than the one before")
        if not is_voucher_signed(voucher, self._setup.session_key):
            raise BoundaryError("the voucher is not signed by the session key")
        self._voucher = voucher
        if self._is_behind_vouchers():
            return []
        released, self._held = self._held, []
        return released

    def _on_roots(self, roots: tuple[SignedStageRoots, ...]) -> list[StageEffect]:
        if self._upstream_roots is not None or len(roots) != self._stage:
            raise BoundaryError(f"roots of {len(roots)} stages at stage {self._stage}")
        for number, signed in enumerate(roots):
            stated = signed.roots
            if (stated.request, stated.stage) != (self.request, number):
                raise BoundaryError(f"roots of another request or stage in place {number}")
            if not is_stage_roots_signed(signed, self._order.path[number].worker):
                raise BoundaryError(f"the roots of stage {number} are not signed by its worker")
        self._upstream_roots = roots
        if self._positions_total is None:
            self._positions_total = roots[-1].roots.positions
        return []

    def _try_finish(self) -> list[StageEffect]:
        total, before = self._positions_total, self._upstream_roots
        if total is None or before is None or self._held:
            return []
        windows = compute_windows(total)
        if self._input.signed < windows or self._output.signed < windows:
            return []
        if self._is_last and not (self._voucher and self._voucher.voucher.tokens == self._tokens):
            return []
        if self._input.positions != total:
            raise BoundaryError(f"{self._input.positions} positions came where {total} were stated")
        own = StageRoots(
            self.request, self._stage, windows, total, self._input.compute_root(), self._output.compute_root()
        )
        if before and (before[-1].roots.output_root, before[-1].roots.positions) != (own.input_root, total):
            raise BoundaryError("the stage before commits to other leaves than it sent")
        roots = (*before, sign_stage_roots(own, self._setup.worker_key))
        effects: list[StageEffect] = [Retain(self._make_record())]
        if self._voucher is not None and self._is_last:
            effects.append(SubmitSettlement(Settle(self._setup.order, self._voucher, roots)))
        else:
            effects.append(ToDownstream(RootsFrame(roots)))
        return [*effects, Finished()]

    def _make_record(self) -> RequestRecord:
        windows = range(self._input.windows)
        return RequestRecord(
            order=self._setup.order,
            stage=self._stage,
            input_leaves=self._input.get_signed(),
            input_payloads=tuple(self._input.get_payload(one) for one in windows),
            output_leaves=self._output.get_signed(),
            output_payloads=tuple(self._output.get_payload(one) for one in windows),
            traces=tuple(self._output.get_trace(one) for one in windows),
        )
