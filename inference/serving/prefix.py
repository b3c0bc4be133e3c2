"""The roots that stages sign over a running request's first whole windows, and what they and a voucher settle.

A request that loses a stage can no longer end as it should: its roots are collected at its end. So while it runs every
stage signs, window by window, the roots over what its neighbours and itself have signed by then, and hands them on with
those of the stages before. The last stage and the client hold the roots of all.
"""

from __future__ import annotations

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.place import Place
from inference.serving.roots import validate_roots
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.types.request import Order, SignedStageRoots, StageRoots, compute_windows, sign_stage_roots


class PrefixBook:
    """The prefix roots of one request on one stage. `roots` are those of the stages up to this one, over `windows`."""

    def __init__(self, order: Order, place: Place, worker_key: SigningKey) -> None:
        self.windows = 0
        self.roots: tuple[SignedStageRoots, ...] = ()
        self._order = order
        self._place = place
        self._key = worker_key
        self._before: dict[int, tuple[SignedStageRoots, ...]] = {}

    def take(self, roots: tuple[SignedStageRoots, ...], received: BoundaryLog) -> None:
        """Keep the roots of the stages before. Raises BoundaryError for roots that this stage could not follow."""
        if len(roots) != self._place.stage or not roots:
            raise BoundaryError(f"prefix roots of {len(roots)} stages at stage {self._place.stage}")
        windows = roots[0].roots.windows
        if roots[0].roots.positions != windows * WINDOW_POSITIONS or not self.windows < windows <= received.signed:
            raise BoundaryError(f"prefix roots over {windows} windows, of {received.signed} that are signed")
        validate_roots(self._order, self._place.request, roots)
        if roots[-1].roots.output_root != received.compute_root(windows):
            raise BoundaryError("the stage before commits to other leaves than it sent")
        self._before[windows] = roots

    def sign_next(self, received: BoundaryLog, sent: BoundaryLog) -> bool:
        """Sign for as many whole windows as all stages up to this one can; whether there are more than before."""
        most = min(received.signed, sent.signed)
        if most and received.get_count(most - 1) < WINDOW_POSITIONS:
            most -= 1
        if not self._place.is_first:
            most = max((one for one in self._before if one <= most), default=0)
        if most <= self.windows:
            return False
        before = () if self._place.is_first else self._before[most]
        for one in [one for one in self._before if one <= most]:
            del self._before[one]
        self.windows = most
        self.roots = (*before, sign_roots(self._place, self._key, received, sent, most * WINDOW_POSITIONS))
        return True


def sign_roots(
    place: Place, key: SigningKey, received: BoundaryLog, sent: BoundaryLog, positions: int
) -> SignedStageRoots:
    """A stage's roots over the windows of its first `positions`, whose leaves both boundaries have."""
    windows = compute_windows(positions)
    roots = received.compute_root(windows), sent.compute_root(windows)
    return sign_stage_roots(StageRoots(place.request, place.stage, windows, positions, *roots), key)
