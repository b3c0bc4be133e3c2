"""What calls cost: 1 weight is 1 microsecond on the reference machine (one Zen4 core, CPython 3.11; see fees.md).

`make weights` measures the numbers and writes `weights_table.py`. A call costs its base plus a price for each unit of
each component that can be read off it. Both include time, and at the table's price the reads and changes of a large
state. A call also pays for what it causes in later blocks, and for the worst case that the state allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from consensus.runtime import weights_table as table
from consensus.runtime.inference.sequences import count_chunks
from proto_specs.types import calls
from proto_specs.types.chain import Transaction
from proto_specs.types.promise_calls import JoinSettlement, ReportDoublePromise

_NS = 1_000
"""Nanoseconds of one weight."""

SizeOf = Callable[[Any], int]


def _count_held(call: calls.MultisigCall) -> int:
    """Number of calls in a batch; each is hashed once more where several keys approve the batch."""
    return len(call.calls) if isinstance(call, (calls.BatchAll, calls.BatchEach)) else 0


COMPONENTS: dict[type, dict[str, SizeOf]] = {
    calls.Remark: {"bytes": lambda call: len(call.data)},
    calls.RegisterModel: {"bytes": lambda call: len(call.manifest)},
    calls.RegisterWorker: {"addresses": lambda call: len(call.addresses)},
    calls.UpdateWorker: {"addresses": lambda call: len(call.addresses)},
    calls.Settle: {"stages": lambda call: max(len(call.stage_roots), len(call.order.order.path))},
    calls.SettleStatement: {
        "stages": lambda call: max(len(call.statement.worker_signatures), len(call.statement.statement.path)),
        "chunks": lambda call: count_chunks(call.statement.statement.sequences),
    },
    JoinSettlement: {
        "path": lambda call: len(call.order.order.path),
        "stages": lambda call: len(call.stage_roots),
    },
    ReportDoublePromise: {"path": lambda call: len(call.order.order.path)},
    calls.ProposeParams: {"changes": lambda call: len(call.changes)},
    calls.BatchAll: {"calls": lambda call: len(call.calls)},
    calls.BatchEach: {"calls": lambda call: len(call.calls)},
    calls.AsMulti: {"others": lambda call: len(call.others), "held": lambda call: _count_held(call.call)},
    calls.ApproveAsMulti: {"others": lambda call: len(call.others)},
    calls.CancelAsMulti: {"others": lambda call: len(call.others)},
}
"""Components of a call that its cost grows with. Calls not listed here always cost the same."""


CALL_WEIGHT_MAX = 400_000
"""The most that a call which holds no calls weighs with its transaction. A call that the table lacks, or has with
other components, weighs this much: a new call can run and be measured, and cannot be forgotten.
"""


def price_cost(cost: table.Cost) -> int:
    """A cost, including its state accesses, in nanoseconds."""
    time, reads, seeks, rows, writes = cost
    return time + reads * table.READ_NS + seeks * table.SEEK_NS + rows * table.ROW_NS + writes * table.WRITE_NS


def _compile(call_type: type) -> tuple[int, tuple[tuple[SizeOf, int], ...]]:
    """(base, (size of a component, price of one unit) ...) in nanoseconds."""
    sizes = COMPONENTS.get(call_type, {})
    if not is_measured(call_type):
        return CALL_WEIGHT_MAX * _NS, ()
    costs = table.CALLS[call_type.__name__]
    return price_cost(costs[""]), tuple((size, price_cost(costs[name])) for name, size in sizes.items())


def is_measured(call_type: type) -> bool:
    """Whether the table has the call with exactly the components listed here."""
    costs = table.CALLS.get(call_type.__name__, {})
    return costs.keys() == {"", *COMPONENTS.get(call_type, {})}


_PRICES = {one: _compile(one) for one in get_args(calls.Call)}

TRANSACTION_WEIGHT = -(-(table.SIGNATURE_NS + price_cost(table.TRANSACTION)) // _NS)
"""Decode, signature, checks, nonce, fee, receipt, the signer's account: what a transaction costs before its call."""


def compute_weight(transaction: Transaction) -> int:
    """Weight of a transaction with its call, and with what the call causes in later blocks (draws, resolution)."""
    return TRANSACTION_WEIGHT + compute_call_weight(transaction.body.call)


def compute_call_weight(call: calls.Call) -> int:
    """Weight of a call without its transaction, including every call it holds, whether they run or not."""
    base, components = _PRICES[type(call)]
    own = -(-(base + sum(size(call) * price for size, price in components)) // _NS)
    if isinstance(call, (calls.BatchAll, calls.BatchEach)):
        return own + sum(compute_call_weight(one) for one in call.calls)
    if isinstance(call, calls.AsMulti):
        return own + compute_call_weight(call.call)
    return own
