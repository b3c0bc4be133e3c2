"""Finds the other order of a client that promised a position of its deposit twice, and has the client convicted.

It is looked for only when an order of this worker found no escrow, or its number used. What was settled in its place is
on chain with its order, or with the statement that the client signed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any, Final

from consensus.runtime.inference import queries
from node.client.account import SigningAccount
from node.client.json_records import read_record
from node.client.rpc_errors import RpcError
from proto_specs.errors import DecodeError
from proto_specs.promises import is_conflict, is_in_statement, make_promise
from proto_specs.types.promise_calls import PromisedByOrder, PromisedByStatement, ReportDoublePromise
from proto_specs.types.request import SignedOrder, SignedVoucher
from proto_specs.types.statement import SignedStatement

logger = logging.getLogger("myelin.worker")

BLOCKS_MAX: Final = 64
"""Blocks with settlements of the session that are looked through, the latest first."""
ORDER_CALLS: Final = frozenset({"Settle", "JoinSettlement"})


async def report_double(account: SigningAccount, order: SignedOrder, voucher: SignedVoucher | None) -> bool:
    """Whether the client's other promise was found and reported. Raises ChainUnreachable."""
    session = order.order.session
    heights = set()
    for _, request in await account.chain.read(queries.list_requests, session):
        found = await account.chain.get_request(request)
        if found is not None:
            heights.add(found.settled_height)
    for height in sorted(heights, reverse=True)[:BLOCKS_MAX]:
        try:
            shown = await account.chain.rpc.call("chain_getBlock", height)
        except RpcError:
            continue  # pruned by this node
        for other in find_promises(shown, order):
            await account.send(ReportDoublePromise(order, voucher, other))
            logger.warning("session %s promised a position twice: its client is reported", session.hex()[:12])
            return True
    return False


def find_promises(shown: Any, order: SignedOrder) -> Iterator[PromisedByOrder | PromisedByStatement]:
    """What settlements in a block, as JSON, contradict the order. Whatever is nested deeper is found as well."""
    own = make_promise(order.order)
    for call in _list_objects(shown):
        try:
            if call.get("type") in ORDER_CALLS:
                signed = read_record(SignedOrder, call["order"])
                if signed.order.session == order.order.session and is_conflict(own, make_promise(signed.order)):
                    yield PromisedByOrder(signed)
            elif call.get("type") == "SettleStatement":
                stated = read_record(SignedStatement, call["statement"])
                if stated.statement.session == order.order.session and is_in_statement(order.order, stated.statement):
                    yield PromisedByStatement(stated.statement, stated.client_signature, None)
        except (DecodeError, KeyError):
            continue


def _list_objects(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
        for one in value.values():
            yield from _list_objects(one)
    elif isinstance(value, list):
        for one in value:
            yield from _list_objects(one)
