"""A stage's intake over its input boundary: rows that are due, and the leaf that waits for them. Signs nothing."""

from __future__ import annotations

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.events import Compute
from inference.serving.place import Place
from proto_specs.limits import UNVOUCHED_WINDOWS_MAX, WINDOW_POSITIONS
from proto_specs.types.request import Order, compute_prompt_hash
from proto_specs.types.wire import FailureCode, FinishReason, OutputLeaf, Rows, Token

UNSIGNED_WINDOWS_MAX = UNVOUCHED_WINDOWS_MAX + 1
"""Windows of rows beyond the last signed leaf: as many as a stage generates without a voucher."""


class Intake:
    """The input boundary of a request. Every method raises BoundaryError when the sender breaks a rule."""

    def __init__(self, order: Order, place: Place, log: BoundaryLog, row_bytes: int) -> None:
        self.log = log
        self._order = order
        self._place = place
        self._row_bytes = row_bytes
        self._waiting: OutputLeaf | None = None

    def take_rows(self, rows: Rows, limit: int) -> Compute:
        """Take rows of the prompt or of the stage before, up to position `limit`; returns work for the shard."""
        if rows.boundary != self._place.stage:
            raise BoundaryError(f"rows of boundary {rows.boundary} at stage {self._place.stage}")
        end = rows.start + rows.count
        if end > limit:
            raise BoundaryError(f"rows up to position {end} where no more than {limit} are due")
        if len(rows.payload) != rows.count * self._row_bytes:
            raise BoundaryError(f"{rows.count} rows of {self._row_bytes} bytes, got {len(rows.payload)} bytes")
        return self._append(rows.start, rows.count, rows.payload, rows.draft)

    def take_token(self, token: Token) -> Compute | None:
        """Take a generated token, back at the first stage; returns work for the shard, None after the last token."""
        if not self._place.is_first:
            raise BoundaryError("only the first stage is fed tokens")
        order, position = self._order, self.log.positions
        if position != order.prompt_tokens + token.index:
            raise BoundaryError(f"token {token.index} is not due at position {position}")
        if token.finish not in tuple(FinishReason) or token.index >= order.tokens_max:
            raise BoundaryError(f"token {token.index} of {order.tokens_max} with finish {token.finish}")
        if token.finish != FinishReason.NONE:
            return None
        if token.index + 1 == order.tokens_max:
            raise BoundaryError("the last token that was ordered does not end the generation")
        return self._append(position, 1, token.token.to_bytes(self._row_bytes, "little"))

    def take_leaf(self, frame: OutputLeaf) -> None:
        """Keep the sender's next leaf until its rows are here: the client's leaf may come before its tokens."""
        leaf = frame.leaf
        if leaf.boundary != self._place.stage or leaf.window != self.log.leaves:
            raise BoundaryError(f"leaf of boundary {leaf.boundary}, window {leaf.window} is not due")
        if not 1 <= leaf.count <= WINDOW_POSITIONS:
            raise BoundaryError(f"a leaf over {leaf.count} positions")
        if self._waiting is not None:
            raise BoundaryError("a second leaf came before the first one's rows")
        self._waiting = frame

    def release_leaf(self, is_fed: bool) -> OutputLeaf | None:
        """The waiting leaf, returned once, when all its rows are here. `is_fed` says that no more rows will come."""
        frame = self._waiting
        if frame is None:
            return None
        leaf, logged = frame.leaf, self.log.get_count(frame.leaf.window)
        if self._place.is_first and not is_fed and (leaf.count < WINDOW_POSITIONS or logged < leaf.count):
            return None
        if logged < leaf.count:
            raise BoundaryError(f"leaf over {leaf.count} positions of window {leaf.window}, but {logged} came")
        self._waiting = None
        return frame

    def cut(self, windows: int) -> None:
        """Forget everything after the first `windows` windows."""
        self.log.cut(windows)
        self._waiting = None

    def _append(self, start: int, count: int, payload: bytes, draft: tuple[int, ...] = ()) -> Compute:
        if start // WINDOW_POSITIONS > self.log.leaves + UNSIGNED_WINDOWS_MAX:
            detail = f"rows of position {start}, but leaves of {self.log.leaves} windows"
            raise BoundaryError(detail, FailureCode.UNVOUCHED)
        sure = count - len(draft)
        self.log.append(start, sure, payload[: sure * self._row_bytes])
        if draft:
            self.log.hold(len(draft), payload[sure * self._row_bytes :])
        if self._place.is_first and self.log.positions == self._order.prompt_tokens:
            prompt = b"".join(self.log.get_payload(window) for window in range(self.log.windows))
            if compute_prompt_hash(prompt) != self._order.prompt_hash:
                raise BoundaryError("the prompt's tokens do not match the hash in the order")
        return Compute(start, count, payload, draft)
