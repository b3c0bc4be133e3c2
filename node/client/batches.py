"""Finished requests that wait for a statement, by session and path, and when one is due. Pure; times are seconds.

A statement costs the chain what one request's settlement costs. It is made when enough requests came together, when the
first has waited long enough, when the bond of a stage bears no more at once, and when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from inference.serving.finished import FinishedRequest
from inference.serving.statements import make_leaf
from proto_specs.codec import encode
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import STATEMENT_PROPOSAL_BYTES_MAX, STATEMENT_REQUESTS_MAX, STATEMENT_SPANS_MAX
from proto_specs.types.request import PathStage, compute_billed_price
from proto_specs.types.sum_tree import RequestLeaf

PROPOSAL_LEAVES_BYTES_MAX = STATEMENT_PROPOSAL_BYTES_MAX // 2
DUE_SHARE = (1, 2)
"""Of what a stage may earn at once by its bond: a statement is due by then."""


@dataclass(frozen=True, slots=True)
class BatchRules:
    """A statement is made of `requests_max` requests, or `wait_s` after the first of them has finished."""

    requests_max: int = 256
    wait_s: float = 30.0


@dataclass(slots=True)
class Batch:
    """What waits of one session and path. `gross_max` are the most nmyl that each stage may earn at once."""

    session: bytes
    key: SigningKey
    path: tuple[PathStage, ...]
    gross_max: tuple[int, ...]
    since_s: float
    finished: list[FinishedRequest] = field(default_factory=list)
    gross: list[int] = field(default_factory=list)
    is_hurried: bool = False

    def add(self, one: FinishedRequest) -> None:
        """One more."""
        self.finished.append(one)
        self.gross = [before + more for before, more in zip(self.gross, compute_gross(one), strict=True)]

    def is_due(self, rules: BatchRules, now_s: float) -> bool:
        """Whether to make the statement now."""
        part, whole = DUE_SHARE
        is_laden = any(one * whole >= most * part for one, most in zip(self.gross, self.gross_max, strict=True))
        is_full = len(self.finished) >= rules.requests_max
        return is_full or is_laden or self.is_hurried or now_s - self.since_s >= rules.wait_s


class Batches:
    """All that wait."""

    def __init__(self, rules: BatchRules) -> None:
        self._rules = rules
        self._batches: dict[tuple[bytes, tuple[PathStage, ...]], Batch] = {}

    def add(self, one: FinishedRequest, key: SigningKey, gross_max: Mapping[bytes, int], now_s: float) -> None:
        """A request of the session of this key has finished. `gross_max` is by worker, nmyl."""
        order = one.order
        batch = self._batches.get((order.session, order.path))
        if batch is None:
            most = tuple(gross_max[stage.worker] for stage in order.path)
            batch = Batch(order.session, key, order.path, most, now_s, gross=[0] * len(order.path))
            self._batches[order.session, order.path] = batch
        batch.add(one)

    def count(self, session: bytes) -> int:
        """Requests of a session that wait."""
        return sum(len(one.finished) for one in self._batches.values() if one.session == session)

    def hurry(self, session: bytes) -> None:
        """What waits of a session is due."""
        for one in self._batches.values():
            one.is_hurried = one.is_hurried or one.session == session

    def take_due(self, now_s: float) -> list[Batch]:
        """Those that are due, each once."""
        return self._take([key for key, one in self._batches.items() if one.is_due(self._rules, now_s)])

    def take_of(self, session: bytes) -> list[Batch]:
        """All of a session, due or not."""
        return self._take([key for key, one in self._batches.items() if one.session == session])

    def _take(self, keys: Sequence[tuple[bytes, tuple[PathStage, ...]]]) -> list[Batch]:
        return [self._batches.pop(key) for key in keys]


def compute_gross(one: FinishedRequest) -> list[int]:
    """What each stage earns by a request, in nmyl."""
    tokens, positions = one.voucher.voucher.tokens, one.positions
    return [compute_billed_price(one.order, stage, tokens, positions) for stage in one.order.path]


def make_finished_leaf(one: FinishedRequest) -> RequestLeaf:
    """The leaf of a finished request."""
    return make_leaf(one.order, one.voucher.voucher, one.boundaries, one.positions)


def split_batch(batch: Batch, rules: BatchRules) -> list[list[FinishedRequest]]:
    """The batch in statements that the chain and the stages take: few numbers apart, and within every stage's bond."""
    parts: list[_Part] = []
    for one in sorted(batch.finished, key=lambda each: each.order.sequence):
        if not parts or not parts[-1].take(one, batch.gross_max, rules):
            parts.append(_Part([one], compute_gross(one), _measure(one)))
    return [each.finished for each in parts]


@dataclass(slots=True)
class _Part:
    """Requests of one statement, in order. `spans` bounds those of their numbers, and those of their slices."""

    finished: list[FinishedRequest]
    gross: list[int]
    size: int
    spans: int = 1

    def take(self, one: FinishedRequest, gross_max: Sequence[int], rules: BatchRules) -> bool:
        """Add a request, unless the statement would be more than is taken."""
        last, order = self.finished[-1].order, one.order
        is_next = (order.sequence, order.slice_start) == (last.sequence + 1, last.slice_end)
        gross = [before + more for before, more in zip(self.gross, compute_gross(one), strict=True)]
        size, spans = self.size + _measure(one), self.spans + (not is_next)
        is_more = (
            len(self.finished) >= min(rules.requests_max, STATEMENT_REQUESTS_MAX)
            or size > PROPOSAL_LEAVES_BYTES_MAX
            or spans > STATEMENT_SPANS_MAX
            or any(total > most for total, most in zip(gross, gross_max, strict=True))
        )
        if not is_more:
            self.finished.append(one)
            self.gross, self.size, self.spans = gross, size, spans
        return not is_more


def _measure(one: FinishedRequest) -> int:
    return len(encode(make_finished_leaf(one)))
