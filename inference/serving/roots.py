"""The rules for the roots that stages sign and pass down a path, checked before a stage adds its own. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference.serving.boundary import BoundaryError
from proto_specs.types.request import Order, SignedStageRoots, compute_windows, is_stage_roots_signed


def validate_roots(order: Order, request: bytes, roots: Sequence[SignedStageRoots]) -> None:
    """Raises BoundaryError unless these are the roots of stages 0, 1, .. of the path, as the chain will demand them.

    Each is signed by its worker, all have the same positions, and each stage's input leaves are the output leaves of
    the stage before. A single fault would make the whole settlement fail, at the cost of every stage.
    """
    for number, signed in enumerate(roots):
        stated = signed.roots
        if (stated.request, stated.stage) != (request, number):
            raise BoundaryError(f"roots of another request or stage in place {number}")
        if stated.positions != roots[0].roots.positions or stated.windows != compute_windows(stated.positions):
            raise BoundaryError(f"stage {number} states {stated.windows} windows of {stated.positions} positions")
        if number and stated.input_root != roots[number - 1].roots.output_root:
            raise BoundaryError(f"stage {number} did not get what stage {number - 1} sent")
        if not is_stage_roots_signed(signed, order.path[number].worker):
            raise BoundaryError(f"the roots of stage {number} are not signed by its worker")
