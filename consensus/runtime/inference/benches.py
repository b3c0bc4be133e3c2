"""Who may judge a stage, and whether those are enough for any outcome (DESIGN 5.4). Pure: no draws and no money."""

from __future__ import annotations

from collections.abc import Sequence

from consensus.runtime.arithmetic import PERMILLE
from consensus.runtime.context import Environment
from consensus.runtime.inference import state as inference
from consensus.runtime.inference.errors import CommitteeTooSmall
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.staking.state import read_validators
from consensus.state.reader import StateReader
from proto_specs.types.chain import Validator


def check_committees(env: Environment, model: bytes, client: bytes, operators: Sequence[bytes]) -> None:
    """Raises CommitteeTooSmall when a path of these operators leaves too few to judge one of its stages."""
    params, registered = inference.params.read(env.state), list_eligible(env.state, model, set())
    index = find_unjudgeable(params, registered, client, operators)
    if index is not None:
        raise CommitteeTooSmall(f"stage {index}: client and neighbours are too many of those who could judge it")


def find_unjudgeable(
    params: InferenceParams, registered: Sequence[Validator], client: bytes, operators: Sequence[bytes]
) -> int | None:
    """The first stage of a path of these operators that too few of the model's verifiers are left to judge; else None.

    Workers ask before they serve: such a path does not settle.
    """
    for index in range(len(operators)):
        if not list_bench(params, registered, list_parties(client, operators, index)):
            return index
    return None


def list_parties(client: bytes, operators: Sequence[bytes], index: int) -> set[bytes]:
    """Who has a part in a stage: the client, its operator, and the operators of its neighbours on the path.

    Nobody else is excluded from judging it: whoever chooses a path would choose its judges.
    """
    return {client, *operators[max(index - 1, 0) : index + 2]}


def list_bench(params: InferenceParams, registered: Sequence[Validator], parties: set[bytes]) -> list[Validator]:
    """Of all who verify a model those who may judge, in the same order; empty when they are less than the least."""
    bench = [member for member in registered if member.operator not in parties]
    return bench if is_enough(params, bench, registered) else []


def is_enough(params: InferenceParams, bench: Sequence[Validator], registered: Sequence[Validator]) -> bool:
    """Whether these suffice for any outcome, in number and in the share of the stake of all who could be drawn."""
    stake, total = sum(one.power for one in bench), sum(one.power for one in registered)
    return len(bench) >= params.committee_members_min and stake * PERMILLE >= total * params.committee_stake_permille


def list_eligible(state: StateReader, model: bytes, parties: set[bytes]) -> list[Validator]:
    """Elected validators who verify the model and are none of the parties, in the order of the set."""
    verifiers = {operator for _, operator in inference.verifiers.iterate(state, model)}
    return [
        member
        for member in read_validators(state).members
        if member.operator in verifiers and member.operator not in parties
    ]
