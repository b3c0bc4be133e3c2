"""A stage's part in a request, sans-IO: frames and results in, effects out. Knows no stream, clock or array.

The story: rows come in over boundary s, the shard computes them, rows go out over boundary s+1. The leaves follow the
rows: the sender's OUTPUT signature, our check against the received bytes, our INPUT signature, and only then our own
OUTPUT leaf. When the client has signed everything, or has stopped signing, the last stage sends its voucher to the
first. Every stage then cuts its logs to the windows that the voucher covers and signs the roots over its two
boundaries, in order of the path; the last stage settles. So the last stage alone decides what is settled, and once.

A phase of `stage_phases.py` says how far a request is and what it takes; the phase changes in `_advance` alone.
"""

from __future__ import annotations

from dataclasses import replace

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.dues import ClientDues
from inference.serving.events import (
    Computed,
    Conclude,
    Drafted,
    Finished,
    GiveUp,
    Retain,
    StageEffect,
    StageInput,
    Stop,
    StopComputing,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
    read_failure_code,
)
from inference.serving.flow import RowFlow
from inference.serving.generation import Generation
from inference.serving.intake import Intake
from inference.serving.kept import KeptRows
from inference.serving.leaves import accept_countersign, countersign_leaf, sign_next_leaf
from inference.serving.place import compute_place
from inference.serving.pledges import Pledges
from inference.serving.promised import Credit, PromiseBook
from inference.serving.record import RequestRecord
from inference.serving.roots import validate_roots
from inference.serving.setup import StageSetup
from inference.serving.stage_phases import (
    COMPUTING,
    OVER,
    StageEvent,
    StagePhase,
    StageRefusal,
    advance_stage,
    classify,
)
from inference.serving.vouchers import VoucherBook
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.manifest import TOKEN_BYTES, WireDtype
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import (
    SignedStageRoots,
    SignedVoucher,
    compute_windows,
)
from proto_specs.types.wire import (
    Countersign,
    Failed,
    FailureCode,
    OutputLeaf,
    PrefixRoots,
    PromiseFrame,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)


class StageRequest:
    """State of a request on a stage. `handle` takes a frame or a result and returns effects, in order."""

    def __init__(self, setup: StageSetup) -> None:
        order = setup.order.order
        self._setup = setup
        self._order = order
        self._place = place = compute_place(order, setup.stage, setup.session_key)
        self.request = place.request
        hidden = setup.manifest.architecture.hidden
        wire = WireDtype(setup.manifest.wire_dtype)
        row_bytes = TOKEN_BYTES if place.is_first else hidden * wire.item_bytes
        tokens = (1, WireDtype.TOKEN)
        self._input = BoundaryLog(place.request, place.stage, *(tokens if place.is_first else (hidden, wire)))
        self._output = BoundaryLog(place.request, place.stage + 1, *(tokens if place.is_last else (hidden, wire)))
        self._intake = Intake(order, place, self._input, row_bytes)
        self._positions_total: int | None = None
        self._upstream_roots: tuple[SignedStageRoots, ...] | None = () if place.is_first else None
        self._book = VoucherBook(self.request, order.prompt_tokens, setup.session_key)
        self._pledges = Pledges(setup, place, self._input, self._output)
        self._row_bytes = (row_bytes, TOKEN_BYTES if place.is_last else hidden * wire.item_bytes)
        self._generation = Generation(order, place, self._book)
        self._promises = PromiseBook(self.request, order, setup.session_key)
        credit = Credit(order, self._output, self._get_voucher)
        self._flow = RowFlow(setup, place, self._intake, self._output, self._book, self._generation, credit)
        self._dues = ClientDues(order, place, self._input, self._output, self._book, self._generation, self._flow)
        self._phase = StagePhase.SERVING
        self._is_answering = False  # a generated token came back: the prompt was of use

    @property
    def phase(self) -> StagePhase:
        """The request's phase."""
        return self._phase

    @property
    def is_done(self) -> bool:
        """Whether the request has finished or failed: no event has an effect any more."""
        return self._phase in OVER

    @property
    def is_finished(self) -> bool:
        """Whether the request ended as it should: its settlement is under way."""
        return self._phase is StagePhase.FINISHED

    @property
    def prefix_windows(self) -> int:
        """Whole windows whose roots this stage has signed: what another order may go on from."""
        return self._pledges.prefix.windows

    @property
    def progress(self) -> tuple[int, int]:
        """Positions whose rows came in, and those whose rows went out. Drafted rows count when they stand."""
        return self._input.positions, self._output.positions

    def get_settlement(self) -> Settle | None:
        """On a last stage: what settles the windows that all have signed, as far as the client vouched for them."""
        return self._pledges.make_settlement(self._book)

    def get_part(self) -> JoinSettlement | None:
        """What this stage can settle alone: the client's best voucher, and its own roots, whatever others have signed.

        None before there is a voucher, or when nothing is billed by it. A prompt that no token came of is not billed.
        """
        voucher = self._get_voucher()
        if voucher is None or not (voucher.voucher.tokens or self._is_answering):
            return None
        roots = self._pledges.sign_own()
        if roots is None or roots.roots.positions <= self._order.settled_positions:
            return None
        return JoinSettlement(self._setup.order, voucher, (roots,))

    def _with_voucher(self, record: RequestRecord | None) -> RequestRecord | None:
        return None if record is None else replace(record, voucher=self._get_voucher())

    def _get_voucher(self) -> SignedVoucher | None:
        return self._book.voucher if self._place.is_last else self._promises.voucher

    def get_prefix_record(self) -> RequestRecord | None:
        """The windows that all stages up to this one have signed; None without any, and once the request is kept."""
        return None if self.is_finished else self._with_voucher(self._pledges.conclude(0))

    def get_kept(self) -> KeptRows | None:
        """The rows in and out, for an order that goes on from here. A last stage's tokens are drawn anew."""
        if self._place.is_last:
            return None
        # As long as nothing differs, the memory still holds all of the order before.
        return self._flow.kept or KeptRows(self._input, self._output, *self._row_bytes)

    @property
    def needs_upstream(self) -> bool:
        """Whether the stage before still owes us anything."""
        return not self.is_done and self._upstream_roots is None

    @property
    def needs_first(self) -> bool:
        """Whether a last stage still has tokens or its voucher for the first stage."""
        return not self.is_done and self._phase is not StagePhase.CUT

    @property
    def owed_by_client(self) -> tuple[int, ...] | None:
        """None while the client owes nothing now; else a value that changes with each delivery of the client."""
        return self._dues.list_owed(self._phase, self._positions_total)

    def handle(self, event: StageInput) -> list[StageEffect]:
        """The effects of an event. When the other side breaks a rule the effect is `GiveUp`; nothing is raised."""
        if isinstance(event, Stop) and self._place.is_end and self._dues.are_signed(self._positions_total):
            return []  # the remaining steps need no client
        try:
            if not self._advance(classify(event), type(event).__name__):
                return []
            effects = self._dispatch(event)
            released = self._flow.release() if self._phase in COMPUTING else []
            effects += self._feed(released) if released else []
            effects += self._close_windows()
            effects += self._sign_prefix()
            effects += self._try_settle()
            effects += self._try_finish()
        except BoundaryError as error:
            effects = self._give_up(error.code, str(error))
        return effects

    def _advance(self, event: StageEvent, name: str | None = None) -> bool:
        """Move to the phase in the table. False for an ignored event; raises BoundaryError for a refused event."""
        found = advance_stage(self._phase, event)
        if found is StageRefusal.IGNORED:
            return False
        if not isinstance(found, StagePhase):
            raise BoundaryError(f"a request that is {self._phase.value} takes no {name or event.value}")
        self._phase = found
        return True

    def _give_up(self, code: FailureCode, message: str) -> list[StageEffect]:
        self._advance(StageEvent.GIVEN_UP)
        return [GiveUp(code, message)]

    def _dispatch(self, event: StageInput) -> list[StageEffect]:
        match event:
            case Computed():
                return self._feed(self._flow.take_computed(event))
            case Rows():
                return self._feed(self._flow.take_rows(event))
            case Token():
                return self._feed(self._flow.take_token(event))
            case Drafted():
                return self._flow.take_drafted(event.tokens)
            case OutputLeaf():
                return self._on_leaf(event)
            case Countersign():
                return self._on_countersign(event)
            case VoucherFrame():
                return self._on_voucher(event.voucher)
            case PromiseFrame():
                self._promises.take(event.voucher, self._input.reached)
                return []
            case RootsFrame():
                return self._on_roots(event.roots)
            case PrefixRoots():
                self._pledges.prefix.take(event.roots, self._input)
                return []
            case Conclude():
                return self._on_conclude(event)
            case Stop():
                return self._on_stop(event)
            case Failed():
                return [GiveUp(read_failure_code(event.code), event.message, event.lost)]
            case _:
                raise AssertionError(f"the table refuses {type(event).__name__} frames")

    # Leaves -----------------------------------------------------------------------------------------------------

    def _feed(self, effects: list[StageEffect]) -> list[StageEffect]:
        """Rows, a token or a result were taken: they may tell the request's length, and complete a leaf's rows."""
        self._is_answering = self._is_answering or self._input.positions > self._order.prompt_tokens
        if self._flow.length is not None and self._phase is StagePhase.SERVING:
            self._learn_length(self._flow.length)
        return [*effects, *self._answer_leaf()]

    def _learn_length(self, positions: int) -> None:
        self._positions_total = positions
        self._advance(StageEvent.LENGTH_KNOWN)

    def _on_leaf(self, frame: OutputLeaf) -> list[StageEffect]:
        self._intake.take_leaf(frame)
        self._flow.settle_leaf(frame)
        return self._answer_leaf()

    def _answer_leaf(self) -> list[StageEffect]:
        """Countersign the waiting leaf when its rows are all here. A partial leaf tells the request's length."""
        frame = self._intake.release_leaf(self._phase is StagePhase.FED)
        if frame is None:
            return []
        answer = countersign_leaf(self._input, frame, self._place.sender_key, self._setup.worker_key)
        leaf = frame.leaf
        if leaf.count < WINDOW_POSITIONS and not self._place.is_first:
            self._end_at(leaf.start + leaf.count)
        return [ToUpstream(answer)]

    def _close_windows(self) -> list[StageEffect]:
        """Our own OUTPUT leaves, for every complete window whose input leaf we have countersigned."""
        effects: list[StageEffect] = []
        while self._phase in COMPUTING and (window := self._output.leaves) < self._input.leaves:
            if self._output.get_count(window) != self._input.get_count(window):
                break
            frame = sign_next_leaf(self._output, self._setup.worker_key)
            effects.append(ToClient(frame) if self._place.is_last else ToDownstream(frame))
        return effects

    def _sign_prefix(self) -> list[StageEffect]:
        """The roots over the whole windows that all stages up to this one have signed, as soon as there are more."""
        roots = self._pledges.sign_prefix() if self._phase in COMPUTING else ()
        send = ToClient if self._place.is_last else ToDownstream
        return [send(PrefixRoots(roots))] if roots else []

    def _on_conclude(self, told: Conclude) -> list[StageEffect]:
        """Keep what may be drawn, and free everything."""
        record = self._with_voucher(self._pledges.conclude(told.windows))
        effects: list[StageEffect] = [] if record is None else [Retain(record)]
        if told.settlement is not None:
            effects.append(SubmitSettlement(told.settlement))
        return [*effects, Finished()]

    def _on_countersign(self, frame: Countersign) -> list[StageEffect]:
        if self._phase is StagePhase.CUT and frame.window >= self._output.windows:
            return []  # it was under way during the cut
        accept_countersign(self._output, self._place.stage + 1, frame, self._place.receiver_key)
        return []

    # Money and the end ------------------------------------------------------------------------------------------

    def _on_voucher(self, voucher: SignedVoucher) -> list[StageEffect]:
        if self._place.is_last:
            is_finished = self._phase is not StagePhase.SERVING and not self._generation.held
            self._book.accept(voucher, self._output.signed, is_finished)
            return self._generation.release()
        if not self._place.is_first:
            raise BoundaryError("a voucher came to a stage in the middle")
        self._promises.note(voucher)
        return self._cut(self._book.compute_windows_of(voucher.voucher.tokens))

    def _on_stop(self, stop: Stop) -> list[StageEffect]:
        """End early. The first and middle stages pass the stop on; the last stage knows what can be settled."""
        told = Failed(self.request, stop.code, stop.message)
        self._flow.drop()
        if not self._place.is_last:
            return [StopComputing(), ToDownstream(told)]
        windows = self._book.count_settleable_windows(self._output.signed)
        if not windows:
            return self._give_up(stop.code, stop.message)
        return [ToClient(told), *self._settle(windows)]

    def _try_settle(self) -> list[StageEffect]:
        """On the last stage, settle when the client has signed everything."""
        total = self._positions_total
        if not self._place.is_last or self._phase is not StagePhase.FED or total is None or self._generation.held:
            return []
        return self._settle(compute_windows(total)) if self._dues.are_vouched(total) else []

    def _settle(self, windows: int) -> list[StageEffect]:
        """Ask the path for its roots over the windows that the client's voucher covers."""
        assert self._book.voucher is not None, "it covers at least one window"
        effects = self._cut(windows)
        return effects if self._place.is_first else [*effects, ToFirst(VoucherFrame(self._book.voucher))]

    def _cut(self, windows: int) -> list[StageEffect]:
        """Keep the first `windows` windows, which will be settled."""
        if windows > self._output.leaves:
            raise BoundaryError(f"{windows} windows are to be settled, {self._output.leaves} are complete")
        self._advance(StageEvent.WINDOWS_FIXED)
        self._pledges.note_cut(windows)
        self._intake.cut(windows)
        self._output.cut(windows)
        self._positions_total = self._output.positions
        self._generation.drop()
        self._flow.drop()
        return [StopComputing()]

    def _on_roots(self, roots: tuple[SignedStageRoots, ...]) -> list[StageEffect]:
        if self._upstream_roots is not None or len(roots) != self._place.stage:
            raise BoundaryError(f"roots of {len(roots)} stages at stage {self._place.stage}")
        validate_roots(self._order, self.request, roots)
        effects: list[StageEffect] = []
        total = roots[-1].roots.positions
        self._flow.settle_end(total)
        if total < self._input.positions and not self._place.is_last and total % WINDOW_POSITIONS == 0:
            effects = self._cut(total // WINDOW_POSITIONS)
        self._end_at(total)
        windows = compute_windows(total)
        if self._input.leaves != windows or roots[-1].roots.output_root != self._input.compute_root(windows):
            raise BoundaryError("the stage before commits to other leaves than it sent")
        self._upstream_roots = roots
        return effects

    def _end_at(self, total: int) -> None:
        """The sender ends the request after `total` positions; a last stage knows its length already."""
        known = self._positions_total
        if self._input.positions != total or known not in ((total,) if self._place.is_last else (None, total)):
            raise BoundaryError(f"said to end after {total} positions, with {self._input.positions} received")
        if known is None:
            self._learn_length(total)

    def _try_finish(self) -> list[StageEffect]:
        total, before = self._positions_total, self._upstream_roots
        is_fixed = self._phase is StagePhase.CUT or not (self._place.is_end or self.is_done)
        if total is None or before is None or not is_fixed:
            return []
        windows = compute_windows(total)
        if min(self._input.signed, self._output.signed) < windows:
            return []
        roots = (*before, self._pledges.sign_roots(total))
        self._advance(StageEvent.ALL_SIGNED)
        record = self._with_voucher(self._pledges.make_record(windows))
        effects: list[StageEffect] = [] if record is None else [Retain(record)]
        if self._place.is_last:
            assert self._book.voucher is not None, "a last stage finishes with a voucher"
            effects.append(SubmitSettlement(Settle(self._setup.order, self._book.voucher, roots)))
        else:
            effects.append(ToDownstream(RootsFrame(roots)))
        return [*effects, Finished()]
