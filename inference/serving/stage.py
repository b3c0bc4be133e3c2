"""One stage's part in one request, sans-IO: frames and results in, effects out. Knows no stream, clock or array.

The story: rows come in over boundary s, the shard computes them, rows go out over boundary s+1. Behind the rows follow
the leaves: the sender's OUTPUT signature, our check against the bytes that came, our INPUT signature, and only then our
own OUTPUT leaf. When the client has signed everything, or has stopped signing, the last stage hands its voucher to the
first. Every stage then cuts its logs to the windows that the voucher covers and signs the roots over its two
boundaries, in order of the path; the last one settles. So one party alone decides what is settled, and decides once.
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
    Stop,
    StopComputing,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
    read_failure_code,
)
from inference.serving.leaves import accept_countersign, countersign_leaf, make_record, sign_next_leaf
from inference.serving.roots import validate_roots
from inference.serving.vouchers import VoucherBook
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import UNVOUCHED_WINDOWS_MAX, WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import TOKEN_BYTES, Manifest, WireDtype
from proto_specs.types.request import (
    SignedOrder,
    SignedStageRoots,
    SignedVoucher,
    StageRoots,
    compute_positions,
    compute_prompt_hash,
    compute_request_id,
    compute_windows,
    is_voucher_signed,
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

UNSIGNED_WINDOWS_MAX = UNVOUCHED_WINDOWS_MAX + 1
"""Windows of rows beyond the last signed leaf: as far as generation goes without a voucher."""


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
        self._row_bytes = TOKEN_BYTES if self._is_first else hidden * wire.item_bytes
        in_width, in_dtype = (1, WireDtype.TOKEN) if self._is_first else (hidden, wire)
        out_width, out_dtype = (1, WireDtype.TOKEN) if self._is_last else (hidden, wire)
        # Who signs each boundary, in order: the client, the workers, and the client again.
        keys = [setup.session_key, *(one.worker for one in order.path), setup.session_key]
        self._sender_key, self._receiver_key = keys[self._stage], keys[self._stage + 2]
        self._input = BoundaryLog(self.request, self._stage, in_width, in_dtype)
        self._output = BoundaryLog(self.request, self._stage + 1, out_width, out_dtype)
        self._early_leaf: OutputLeaf | None = None
        self._positions_total: int | None = None
        self._is_fed = False
        self._upstream_roots: tuple[SignedStageRoots, ...] | None = () if self._is_first else None
        self._book = VoucherBook(self.request, order.prompt_tokens, setup.session_key)
        self._held: list[Token] = []
        self._is_stopped = False
        self._is_cut = False
        self.is_done = False

    @property
    def needs_client(self) -> bool:
        """Whether the client still owes this stage a signature; what is left after that goes on without it."""
        if self.is_done or self._is_cut or not (self._is_first or self._is_last):
            return False
        if self._positions_total is None:
            return True
        windows = compute_windows(self._positions_total)
        is_fed = not self._is_first or self._input.signed == windows
        is_vouched = not self._is_last or (self._book.is_complete and self._output.signed == windows)
        return not (is_fed and is_vouched)

    @property
    def needs_upstream(self) -> bool:
        """Whether the stage before still owes us anything."""
        return not self.is_done and self._upstream_roots is None

    @property
    def needs_first(self) -> bool:
        """Whether a last stage still has tokens or its voucher for the first one."""
        return not self.is_done and not self._is_cut

    @property
    def owed_by_client(self) -> tuple[int, ...] | None:
        """None while the client owes nothing now; else a value that changes whenever it delivers something."""
        if self._is_stopped or not self.needs_client:
            return None
        if self._is_first and self._input.positions < self._order.prompt_tokens:
            return (0,)
        is_over = self._positions_total is not None
        owes_leaf = self._is_first and (is_over or self._input.leaves < self._input.positions // WINDOW_POSITIONS)
        owes_voucher = self._is_last and (is_over or bool(self._held) or self._output.signed < self._output.leaves)
        return (1, self._input.leaves, self._output.signed, self._book.vouched) if owes_leaf or owes_voucher else None

    def handle(self, event: Frame | Computed | Stop) -> list[StageEffect]:
        """The effects of one event. A broken rule of the other side becomes `GiveUp`, never an exception."""
        if self.is_done:
            return []
        try:
            effects = self._dispatch(event)
            effects += self._close_windows()
            effects += self._try_settle()
            effects += self._try_finish()
        except BoundaryError as error:
            effects = [GiveUp(error.code, str(error))]
        self.is_done = any(isinstance(one, GiveUp | Finished) for one in effects)
        return effects

    def _dispatch(self, event: Frame | Computed | Stop) -> list[StageEffect]:
        match event:
            case Computed() | Rows() | Token() | OutputLeaf() if self._is_stopped:
                return []  # was under way when we stopped
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
            case Stop():
                return self._on_stop(event)
            case Failed():
                return [GiveUp(read_failure_code(event.code), event.message)]
            case _:
                raise BoundaryError(f"a stage takes no {type(event).__name__} frame in mid-request")

    # Rows in, rows out ------------------------------------------------------------------------------------------

    def _on_rows(self, rows: Rows) -> list[StageEffect]:
        if rows.boundary != self._stage:
            raise BoundaryError(f"rows of boundary {rows.boundary} at stage {self._stage}")
        end, limit = rows.start + rows.count, self._compute_positions_due()
        if end > limit:
            raise BoundaryError(f"rows up to position {end} where no more than {limit} are due")
        if len(rows.payload) != rows.count * self._row_bytes:
            raise BoundaryError(f"{rows.count} rows of {self._row_bytes} bytes, got {len(rows.payload)} bytes")
        return self._accept_rows(rows.start, rows.count, rows.payload)

    def _compute_positions_due(self) -> int:
        """How far rows may go now: the prompt; beyond it one position for every token that was sent."""
        if self._is_first:
            return self._order.prompt_tokens
        if self._positions_total is not None:
            return self._positions_total
        if self._is_last:
            return self._order.prompt_tokens + self._book.tokens - len(self._held)
        return compute_positions(self._order.prompt_tokens, self._order.tokens_max)

    def _on_token(self, token: Token) -> list[StageEffect]:
        if not self._is_first:
            raise BoundaryError("only the first stage is fed tokens")
        if self._is_fed or self._input.positions != self._order.prompt_tokens + token.index:
            raise BoundaryError(f"token {token.index} is not due at position {self._input.positions}")
        if token.finish not in tuple(FinishReason) or token.index >= self._order.tokens_max:
            raise BoundaryError(f"token {token.index} of {self._order.tokens_max} with finish {token.finish}")
        if token.finish != FinishReason.NONE:
            self._is_fed = True
            self._positions_total = self._input.positions
            return self._check_early_leaf()
        if token.index + 1 == self._order.tokens_max:
            raise BoundaryError("the last token that was ordered does not end the generation")
        return self._accept_rows(self._input.positions, 1, token.token.to_bytes(TOKEN_BYTES, "little"))

    def _accept_rows(self, start: int, count: int, payload: bytes) -> list[StageEffect]:
        if start // WINDOW_POSITIONS > self._input.leaves + UNSIGNED_WINDOWS_MAX:
            detail = f"rows of position {start}, but leaves of {self._input.leaves} windows"
            raise BoundaryError(detail, FailureCode.UNVOUCHED)
        self._input.append(start, count, payload)
        if self._is_first and self._input.positions == self._order.prompt_tokens:
            prompt = b"".join(self._input.get_payload(one) for one in range(self._input.windows))
            if compute_prompt_hash(prompt) != self._order.prompt_hash:
                raise BoundaryError("the prompt's tokens do not match the hash in the order")
        return [Compute(start, count, payload), *self._check_early_leaf()]

    def _on_computed(self, done: Computed) -> list[StageEffect]:
        if not self._is_last:
            self._output.append(done.start, done.count, done.payload)
            frame = Rows(self.request, self._stage + 1, done.start, done.count, done.payload)
            return [ToDownstream(frame)]
        tokens = b"".join(one.to_bytes(TOKEN_BYTES, "little") for one in done.tokens)
        self._output.append(done.start, done.count, tokens, done.trace)
        return [effect for token in done.tokens for effect in self._emit_token(token)]

    def _emit_token(self, token: int) -> list[StageEffect]:
        index = self._book.tokens
        self._book.add_token(token)
        finish = FinishReason.NONE
        if token in self._setup.manifest.eos_tokens:
            finish = FinishReason.STOP
        elif self._book.tokens == self._order.tokens_max:
            finish = FinishReason.LENGTH
        if finish is not FinishReason.NONE:
            self._positions_total = compute_positions(self._order.prompt_tokens, self._book.tokens)
        self._held.append(Token(self.request, index, token, finish))
        return self._release_held()

    def _release_held(self) -> list[StageEffect]:
        """Send what was generated, unless the client is too far behind with its vouchers."""
        if self._book.is_behind:
            return []
        frames, self._held = self._held, []
        return [effect for frame in frames for effect in (ToClient(frame), ToFirst(frame))]

    # Leaves -----------------------------------------------------------------------------------------------------

    def _on_leaf(self, frame: OutputLeaf) -> list[StageEffect]:
        leaf = frame.leaf
        if leaf.boundary != self._stage or leaf.window != self._input.leaves:
            raise BoundaryError(f"leaf of boundary {leaf.boundary}, window {leaf.window} is not due")
        if not 1 <= leaf.count <= WINDOW_POSITIONS:
            raise BoundaryError(f"a leaf over {leaf.count} positions")
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
        if self._is_first and not self._is_fed and (is_partial or logged < leaf.count):
            return []
        if logged < leaf.count:
            raise BoundaryError(f"leaf over {leaf.count} positions of window {leaf.window}, but {logged} came")
        self._early_leaf = None
        answer = countersign_leaf(self._input, frame, self._sender_key, self._setup.worker_key)
        if is_partial and not self._is_first:
            self._end_at(leaf.start + leaf.count)
        return [ToUpstream(answer)]

    def _close_windows(self) -> list[StageEffect]:
        """Our own OUTPUT leaves, of every complete window whose input leaf we have countersigned."""
        effects: list[StageEffect] = []
        while not self._is_stopped and (window := self._output.leaves) < self._input.leaves:
            if self._output.get_count(window) != self._input.get_count(window):
                break
            frame = sign_next_leaf(self._output, self._setup.worker_key)
            effects.append(ToClient(frame) if self._is_last else ToDownstream(frame))
        return effects

    def _on_countersign(self, frame: Countersign) -> list[StageEffect]:
        if self._is_cut and frame.window >= self._output.windows:
            return []  # was under way when we cut
        accept_countersign(self._output, self._stage + 1, frame, self._receiver_key)
        return []

    # Money and the end ------------------------------------------------------------------------------------------

    def _on_voucher(self, voucher: SignedVoucher) -> list[StageEffect]:
        if self._is_last:
            is_finished = self._positions_total is not None and not self._held
            self._book.accept(voucher, self._output.signed, is_finished)
            return [] if self._is_stopped else self._release_held()
        promised = voucher.voucher
        if not self._is_first or self._is_cut or promised.request != self.request:
            raise BoundaryError("a voucher for another request or stage, or a second one")
        if not is_voucher_signed(voucher, self._setup.session_key):
            raise BoundaryError("the voucher is not signed by the session key")
        return self._cut(self._book.compute_windows_of(promised.tokens))

    def _on_stop(self, stop: Stop) -> list[StageEffect]:
        """End early. The first and middle stages pass it on and wait; the last one knows what can be settled."""
        is_end = self._is_first or self._is_last
        if self._is_stopped or (is_end and not self.needs_client):
            return []
        told = Failed(self.request, stop.code, stop.message)
        self._is_stopped = True
        if not self._is_last:
            return [StopComputing(), ToDownstream(told)]
        windows = self._book.count_settleable_windows(self._output.signed)
        if not windows:
            return [GiveUp(stop.code, stop.message)]
        return [ToClient(told), *self._settle(windows)]

    def _try_settle(self) -> list[StageEffect]:
        """On the last stage: the client has signed everything."""
        total = self._positions_total
        if not self._is_last or self._is_cut or total is None or self._held or not self._book.is_complete:
            return []
        windows = compute_windows(total)
        return self._settle(windows) if self._output.signed == windows else []

    def _settle(self, windows: int) -> list[StageEffect]:
        """Ask the path for its roots over the windows that the client's voucher covers."""
        assert self._book.voucher is not None, "it covers at least one window"
        effects = self._cut(windows)
        return effects if self._is_first else [*effects, ToFirst(VoucherFrame(self._book.voucher))]

    def _cut(self, windows: int) -> list[StageEffect]:
        """Keep the first `windows` windows: they are what will be settled."""
        if windows > self._output.leaves:
            raise BoundaryError(f"{windows} windows are to be settled, {self._output.leaves} are complete")
        self._input.cut(windows)
        self._output.cut(windows)
        self._positions_total = self._output.positions
        self._early_leaf, self._held = None, []
        self._is_stopped = self._is_cut = True
        return [StopComputing()]

    def _on_roots(self, roots: tuple[SignedStageRoots, ...]) -> list[StageEffect]:
        if self._upstream_roots is not None or len(roots) != self._stage:
            raise BoundaryError(f"roots of {len(roots)} stages at stage {self._stage}")
        validate_roots(self._order, self.request, roots)
        effects: list[StageEffect] = []
        total = roots[-1].roots.positions
        if total < self._input.positions and not self._is_last and total % WINDOW_POSITIONS == 0:
            effects = self._cut(total // WINDOW_POSITIONS)
        self._end_at(total)
        if self._input.leaves != compute_windows(total) or roots[-1].roots.output_root != self._input.compute_root():
            raise BoundaryError("the stage before commits to other leaves than it sent")
        self._upstream_roots = roots
        return effects

    def _end_at(self, total: int) -> None:
        """The sender says that the request ends after `total` positions; a last stage knows that itself."""
        known = self._positions_total
        if self._input.positions != total or known not in ((total,) if self._is_last else (None, total)):
            raise BoundaryError(f"said to end after {total} positions, with {self._input.positions} received")
        self._positions_total = total

    def _try_finish(self) -> list[StageEffect]:
        total, before = self._positions_total, self._upstream_roots
        if total is None or before is None or ((self._is_first or self._is_last) and not self._is_cut):
            return []
        windows = compute_windows(total)
        if self._input.signed < windows or self._output.signed < windows:
            return []
        own = StageRoots(
            self.request, self._stage, windows, total, self._input.compute_root(), self._output.compute_root()
        )
        roots = (*before, sign_stage_roots(own, self._setup.worker_key))
        record = make_record(self._setup.order, self._stage, self._input, self._output)
        effects: list[StageEffect] = [Retain(record)]
        if self._is_last:
            assert self._book.voucher is not None, "a last stage finishes with a voucher"
            effects.append(SubmitSettlement(Settle(self._setup.order, self._book.voucher, roots)))
        else:
            effects.append(ToDownstream(RootsFrame(roots)))
        return [*effects, Finished()]
