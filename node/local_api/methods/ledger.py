"""JSON-RPC methods about stake, parameters and accounts of several: staking_, params_, multisig_. Reads only."""

from __future__ import annotations

import itertools
from typing import Any

from consensus.runtime.multisig.state import Operation, operations
from consensus.runtime.params import state as governance
from consensus.runtime.params.protocol import RuntimeParams, read_runtime_params
from consensus.runtime.staking import queries
from consensus.runtime.staking import state as staking
from node.local_api.methods.params import PAGE_ITEMS_MAX, Params
from node.local_api.methods.past import take_state
from node.local_api.methods.schemas import (
    ACCOUNT,
    BLOCK,
    BOOLEAN,
    HASH,
    INTEGER,
    OPERATOR,
    START_HASH,
    TEXT,
    list_of,
    object_of,
    or_null,
    schema_of,
)
from node.local_api.methods.table import NodeView, method, show_bytes
from proto_specs.ss58 import encode_address
from proto_specs.types.chain import Validator


@method("staking_validators", gives=list_of(schema_of(Validator)))
def staking_validators(view: NodeView, params: Params) -> Any:
    """The validators that decide the next block."""
    params.finish()
    return view.show(view.store.get_head().validators)["members"]


@method(
    "staking_validator",
    takes=(
        OPERATOR,
        BLOCK,
    ),
    gives=or_null(schema_of(queries.ValidatorInfo)),
)
def staking_validator(view: NodeView, params: Params) -> Any:
    """A registered validator by its operator's account, elected or not; null when it never registered."""
    operator = params.take_account("operator")
    return view.show(queries.query_validator(take_state(view, params), operator))


@method(
    "staking_stake",
    takes=(
        ACCOUNT,
        BLOCK,
    ),
    gives=object_of(bonded=INTEGER, unbonding=list_of(schema_of(queries.UnbondingInfo))),
)
def staking_stake(view: NodeView, params: Params) -> Any:
    """An account's own stake, and what it has on its way out of its own and of delegated stake."""
    account = params.take_account("account")
    state = take_state(view, params)
    unbonding = [view.show(one) for one in queries.list_unbonding(state, account)]
    return {"bonded": staking.read_stake(state, account).bonded, "unbonding": unbonding}


@method(
    "staking_delegations",
    takes=(
        ACCOUNT,
        BLOCK,
    ),
    gives=list_of(schema_of(queries.DelegationInfo)),
    is_bulky=True,
)
def staking_delegations(view: NodeView, params: Params) -> Any:
    """What an account delegates, by validator, with the reward that a claim in the next block would pay."""
    account = params.take_account("account")
    return [view.show(one) for one in queries.list_delegations(take_state(view, params), account)]


@method("staking_params", takes=(BLOCK,), gives=schema_of(staking.StakingParams))
def staking_params(view: NodeView, params: Params) -> Any:
    """Parameters of the staking module."""
    return view.show(staking.read_params(take_state(view, params)))


@method("params_all", takes=(BLOCK,), gives=schema_of(RuntimeParams))
def params_all(view: NodeView, params: Params) -> Any:
    """Parameters of every module, under the names that a proposal changes them by."""
    return view.show(read_runtime_params(take_state(view, params)))


@method(
    "params_proposals",
    takes=(BLOCK,),
    gives=list_of(
        schema_of(governance.ParamsProposal, proposal=INTEGER, votes=list_of(object_of(operator=TEXT, approve=BOOLEAN)))
    ),
    is_bulky=True,
)
def params_proposals(view: NodeView, params: Params) -> Any:
    """Changes of parameters under vote, oldest first, each with its votes."""
    state, prefix = take_state(view, params), view.spec.ss58_prefix
    return [
        {
            "proposal": number,
            **view.show(found),
            "votes": [
                {"operator": encode_address(operator, prefix), "approve": approves}
                for operator, approves in governance.list_votes(state, number)
            ],
        }
        for number, found in governance.list_proposals(state)
    ]


@method(
    "multisig_operations",
    takes=(
        ACCOUNT,
        START_HASH,
        BLOCK,
    ),
    gives=list_of(schema_of(Operation, call_hash=HASH)),
    is_bulky=True,
)
def multisig_operations(view: NodeView, params: Params) -> Any:
    """Up to 256 open operations of an account of several, by call hash, after `start`."""
    account = params.take_account("account")
    start = params.take_optional_hash("start") or b""
    found = operations.iterate(take_state(view, params), account)
    following = ((key[1], one) for key, one in found if key[1] > start)
    return [
        {"call_hash": show_bytes(call_hash), **view.show(one)}
        for call_hash, one in itertools.islice(following, PAGE_ITEMS_MAX)
    ]
