"""The OpenRPC document of the methods (`rpc.discover`), made of their table."""

from __future__ import annotations

from typing import Any

from node.local_api.methods.params import Params
from node.local_api.methods.schemas import BLOCK, EXTRINSIC, OBJECT, Parameter
from node.local_api.methods.table import METHODS, Method, NodeView, method
from node.local_api.wire.access import UNSAFE_METHODS, get_cost
from node.local_api.wire.errors import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_TRANSACTION,
    LIMIT_EXCEEDED,
    MEANINGS,
    NODE_UNREACHABLE,
    NOT_ALLOWED,
    STATE_UNAVAILABLE,
)
from node.local_api.wire.subscriptions import SUBSCRIPTIONS

OPENRPC_VERSION = "1.2.6"
API_VERSION = "1.0.0"


@method("rpc.discover", gives=OBJECT)
def rpc_discover(view: NodeView, params: Params) -> Any:
    """This document: every method with its parameters and result, in the form of OpenRPC."""
    params.finish()
    return make_document()


def make_document() -> dict[str, Any]:
    """Every method of the table, by name; `x-cost` is what a call counts for in its caller's rate.

    Subscriptions, which are no calls, stand under `x-subscriptions`; proto_specs/rpc.md says more.
    """
    return {
        "openrpc": OPENRPC_VERSION,
        "info": {"title": "Myelin JSON-RPC", "version": API_VERSION},
        "methods": [_describe(name, METHODS[name]) for name in sorted(METHODS)],
        "x-subscriptions": [
            {"begin": one.begin, "end": one.end, "notification": one.notification, "summary": one.text}
            for one in SUBSCRIPTIONS
        ],
        "components": {"errors": {str(code): {"code": code, "message": text} for code, text in MEANINGS.items()}},
    }


def _describe(name: str, found: Method) -> dict[str, Any]:
    text = found.function.__doc__
    assert text is not None, f"{name} says what it does"
    summary, *_ = text.strip().split("\n")
    return {
        "name": name,
        "summary": summary,
        "params": [_describe_parameter(one) for one in found.takes],
        "result": {"name": "result", "schema": found.gives},
        "errors": [{"$ref": f"#/components/errors/{code}"} for code in _list_errors(name, found)],
        "x-cost": get_cost(name),
    }


def _list_errors(name: str, found: Method) -> list[int]:
    """How a call of the method can end. A block that is not there is no error of chain_ methods: they answer null."""
    codes = [INVALID_PARAMS, INTERNAL_ERROR, LIMIT_EXCEEDED, NODE_UNREACHABLE]
    if BLOCK in found.takes and not name.startswith("chain_"):
        codes.append(STATE_UNAVAILABLE)
    if name in UNSAFE_METHODS:
        codes.append(NOT_ALLOWED)
    if EXTRINSIC in found.takes:
        codes.append(INVALID_TRANSACTION)
    return codes


def _describe_parameter(one: Parameter) -> dict[str, Any]:
    return {"name": one.name, "description": one.text, "required": one.is_required, "schema": one.schema}
