"""What calls cost: 1 weight is 1 microsecond on the reference machine (one Zen4 core, CPython 3.11; see fees.md).

The numbers are `weights_table.py`, which `make weights` measures and writes. A call costs its base and, for each
component that can be read off it, so much a piece: each with its time, and with what it reads and changes of a large
state at the table's price. It also carries what it causes in later blocks, and the worst the state can make of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from consensus.runtime import weights_table as table
from proto_specs.types import calls
from proto_specs.types.chain import Transaction

_NS = 1_000
"""Nanoseconds of one weight."""

SizeOf = Callable[[Any], int]


def _count_held(call: calls.MultisigCall) -> int:
    """Calls of a batch, which are hashed once more where several approve it."""
    return len(call.calls) if isinstance(call, (calls.BatchAll, calls.BatchEach)) else 0


COMPONENTS: dict[type, dict[str, SizeOf]] = {
    calls.Remark: {"bytes": lambda call: len(call.data)},
    calls.RegisterModel: {"bytes": lambda call: len(call.manifest)},
    calls.RegisterWorker: {"addresses": lambda call: len(call.addresses)},
    calls.UpdateWorker: {"addresses": lambda call: len(call.addresses)},
    calls.Settle: {"stages": lambda call: max(len(call.stage_roots), len(call.order.order.path))},
    calls.ProposeParams: {"changes": lambda call: len(call.changes)},
    calls.BatchAll: {"calls": lambda call: len(call.calls)},
    calls.BatchEach: {"calls": lambda call: len(call.calls)},
    calls.AsMulti: {"others": lambda call: len(call.others), "held": lambda call: _count_held(call.call)},
    calls.ApproveAsMulti: {"others": lambda call: len(call.others)},
    calls.CancelAsMulti: {"others": lambda call: len(call.others)},
}
"""What of a call its cost grows with. Calls that are not here cost the same whatever they say."""


CALL_WEIGHT_MAX = 400_000
"""No call but one that holds calls weighs more than this with its transaction. What the table does not know, or knows
with other components, weighs this much: so a new call can run and be measured, and cannot be forgotten.
"""


def _price(cost: table.Cost) -> int:
    """A cost with what it touches of the state, in nanoseconds."""
    time, reads, seeks, rows, writes = cost
    return time + reads * table.READ_NS + seeks * table.SEEK_NS + rows * table.ROW_NS + writes * table.WRITE_NS


def _compile(call_type: type) -> tuple[int, tuple[tuple[SizeOf, int], ...]]:
    """(base, (size of a component, price of one) ...) in nanoseconds."""
    sizes = COMPONENTS.get(call_type, {})
    if not is_measured(call_type):
        return CALL_WEIGHT_MAX * _NS, ()
    costs = table.CALLS[call_type.__name__]
    return _price(costs[""]), tuple((size, _price(costs[name])) for name, size in sizes.items())


def is_measured(call_type: type) -> bool:
    """Whether the table has the call with just the components it has here."""
    costs = table.CALLS.get(call_type.__name__, {})
    return costs.keys() == {"", *COMPONENTS.get(call_type, {})}


_PRICES = {one: _compile(one) for one in get_args(calls.Call)}

TRANSACTION_WEIGHT = -(-(table.SIGNATURE_NS + _price(table.TRANSACTION)) // _NS)
"""Decode, signature, checks, nonce, fee, receipt, the signer's account: what a transaction costs before its call."""


def compute_weight(transaction: Transaction) -> int:
    """Weight of a transaction with its call, and with what the call causes in later blocks (draws, resolution)."""
    return TRANSACTION_WEIGHT + compute_call_weight(transaction.body.call)


def compute_call_weight(call: calls.Call) -> int:
    """Weight of a call without its transaction, with all the calls it holds, whether they come to run or not."""
    base, components = _PRICES[type(call)]
    own = -(-(base + sum(size(call) * price for size, price in components)) // _NS)
    if isinstance(call, (calls.BatchAll, calls.BatchEach)):
        return own + sum(compute_call_weight(one) for one in call.calls)
    if isinstance(call, calls.AsMulti):
        return own + compute_call_weight(call.call)
    return own
