"""What a stage has put its key to, and must be able to open: the roots it signs, and the record behind them.

Roots bind a stage whoever submits them. So its record covers the most windows that it has signed roots over: those of
the end, or those of a prefix, although the request was cut to fewer later.
"""

from __future__ import annotations

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.leaves import store_windows
from inference.serving.place import Place
from inference.serving.prefix import PrefixBook, sign_roots
from inference.serving.record import RequestRecord
from inference.serving.setup import StageSetup
from inference.serving.vouchers import VoucherBook
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.calls import Settle
from proto_specs.types.request import SignedStageRoots


class Pledges:
    """The signed roots of one request on one stage, over its two boundaries. `prefix`: those signed while it runs."""

    def __init__(self, setup: StageSetup, place: Place, received: BoundaryLog, sent: BoundaryLog) -> None:
        self.prefix = PrefixBook(setup.order.order, place, setup.worker_key)
        self._setup = setup
        self._place = place
        self._received = received
        self._sent = sent
        self._before_cut: RequestRecord | None = None
        self._own: SignedStageRoots | None = None

    def note_cut(self, windows: int) -> None:
        """Both logs are about to be cut to `windows` windows. This stage may settle alone what it has beyond."""
        most = max(self.prefix.windows, self._count_whole())
        if most > windows:
            self._before_cut = self._make_record(most)
            self._own = self._sign(most * WINDOW_POSITIONS)

    def sign_own(self) -> SignedStageRoots | None:
        """This stage's roots over the most windows whose leaves have both signatures, whatever other stages signed."""
        windows = max(self.prefix.windows, self._count_whole())
        if self._own is None and windows:
            self._own = self._sign(windows * WINDOW_POSITIONS)
        return self._own

    def sign_prefix(self) -> tuple[SignedStageRoots, ...]:
        """The roots up to this stage over the first whole windows, when there are more than before; their windows are
        stored, where the setup has a store."""
        before = self.prefix.windows
        if not self.prefix.sign_next(self._received, self._sent):
            return ()
        if self._setup.store is not None:
            store_windows(self._setup.store, self._received, self._sent, range(before, self.prefix.windows))
        return self.prefix.roots

    def sign_roots(self, positions: int) -> SignedStageRoots:
        """The roots over all positions, whose leaves have both signatures."""
        signed = self._sign(positions)
        if self._own is None or self._own.roots.positions < positions:
            self._own = signed
        return signed

    def make_record(self, windows: int) -> RequestRecord:
        """The record of the first `windows` windows at least, whose leaves have both signatures."""
        return self._before_cut or self._make_record(max(windows, self.prefix.windows))

    def conclude(self, windows: int) -> RequestRecord | None:
        """What has to be kept when only the first `windows` windows count: all that is under prefix roots, if anything.

        Raises BoundaryError when this stage has not signed for so many.
        """
        if windows > self.prefix.windows:
            raise BoundaryError(f"{windows} windows are to count, {self.prefix.windows} are signed here")
        signed = max(self.prefix.windows, 0 if self._own is None else self._own.roots.windows)
        return self.make_record(signed) if signed else None

    def make_settlement(self, book: VoucherBook) -> Settle | None:
        """On a last stage: what settles the windows under prefix roots; None when that bills or vouches for none."""
        signed, voucher = self._setup.order, book.get_voucher(self.prefix.windows)
        if voucher is None or self.prefix.windows * WINDOW_POSITIONS <= signed.order.settled_positions:
            return None
        return Settle(signed, voucher, self.prefix.roots)

    def _count_whole(self) -> int:
        """Whole windows whose leaves have both signatures at both boundaries."""
        windows = min(self._received.signed, self._sent.signed)
        return windows - 1 if windows and self._sent.get_count(windows - 1) < WINDOW_POSITIONS else windows

    def _sign(self, positions: int) -> SignedStageRoots:
        return sign_roots(self._place, self._setup.worker_key, self._received, self._sent, positions)

    def _make_record(self, windows: int) -> RequestRecord:
        setup, received, sent, numbers = self._setup, self._received, self._sent, range(windows)
        return RequestRecord(
            order=setup.order,
            stage=setup.stage,
            input_leaves=received.get_signed(windows),
            input_payloads=tuple(received.get_payload(one) for one in numbers),
            output_leaves=sent.get_signed(windows),
            output_payloads=tuple(sent.get_payload(one) for one in numbers),
            traces=tuple(sent.get_trace(one) for one in numbers),
            prompt=setup.prompt,
            grammar=setup.grammar,
        )
