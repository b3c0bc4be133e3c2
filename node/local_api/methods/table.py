"""The table of JSON-RPC methods: what they read, how they are registered and called. Knows none of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from genesis.spec import ChainSpec
from node.chain.pool import TransactionPool
from node.local_api.methods.params import Params
from node.local_api.methods.schemas import Parameter, Schema
from node.store.chain_store import ChainStore
from proto_specs.jsonform import to_json
from proto_specs.types.chain import Evidence

NODE_NAME = "myelin"


@dataclass(frozen=True, slots=True)
class NodeView:
    """What the methods read. `now_ms` is Unix time; `is_validator` when this node has a validator's key.

    `list_addresses` are those at which peers reach it; `report` takes evidence and says whether it is new and
    convicts.
    """

    spec: ChainSpec
    store: ChainStore
    pool: TransactionPool
    now_ms: Callable[[], int]
    is_validator: bool = False
    list_addresses: Callable[[], Sequence[str]] = tuple
    report: Callable[[Evidence], bool] = lambda _evidence: False

    def show(self, value: Any) -> Any:
        """A record as JSON; None as null."""
        return None if value is None else to_json(value, self.spec.ss58_prefix)


Function = Callable[[NodeView, Params], Any]


@dataclass(frozen=True, slots=True)
class Method:
    """A registered method: its parameters in their order, its result, and what it does.

    A bulky one only reads the store and may take long: it runs in a thread. A submission's function gives what is
    submitted: the server hands it to the pool's admission, by the batch, and answers with what comes of it.
    """

    function: Function
    takes: tuple[Parameter, ...]
    gives: Schema
    is_bulky: bool
    is_submission: bool


METHODS: dict[str, Method] = {}


def method(
    name: str,
    *,
    gives: Schema,
    takes: tuple[Parameter, ...] = (),
    is_bulky: bool = False,
    is_submission: bool = False,
) -> Callable[[Function], Function]:
    """Register a method under its public name."""

    def register(function: Function) -> Function:
        assert name not in METHODS, f"{name} is registered twice"
        METHODS[name] = Method(function, takes, gives, is_bulky, is_submission)
        return function

    return register


def call_method(view: NodeView, name: str, raw: list[Any] | dict[str, Any]) -> Any:
    """What a method's function gives. Raises ApiError."""
    return METHODS[name].function(view, Params(raw, view.spec.ss58_prefix))


def show_bytes(data: bytes) -> str:
    """Bytes as 0x hex."""
    return f"0x{data.hex()}"
