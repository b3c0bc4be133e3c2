"""What comes beside an order: to the last stage what its rules read, to the others nothing."""

from __future__ import annotations

from node.worker.refusal import OrderRefused
from proto_specs.types.manifest import TOKEN_BYTES
from proto_specs.types.request import Order, compute_prompt_hash, read_tokens
from proto_specs.types.sampling import compute_grammar_hash
from proto_specs.types.wire import FailureCode, OpenRequest


def check_attached(opened: OpenRequest, stage: int, vocab: int) -> None:
    """Raises OrderRefused unless prompt and grammar are there where the order names them, and are what it names."""
    order = opened.order.order
    is_last = stage == len(order.path) - 1
    _check_prompt(opened.prompt, order, is_last, vocab)
    grammar = order.sampling.grammar
    if grammar is None or not is_last:
        if opened.grammar:
            raise _refuse("a grammar came that this stage's rules do not read")
    elif compute_grammar_hash(opened.grammar) != grammar.text_hash:
        raise _refuse("the grammar beside the order is missing or not the one it names")


def _check_prompt(prompt: bytes, order: Order, is_last: bool, vocab: int) -> None:
    if not (is_last and order.needs_prompt):
        if prompt:
            raise _refuse("a prompt came that this stage's rules do not read")
        return
    if len(prompt) != order.prompt_tokens * TOKEN_BYTES or compute_prompt_hash(prompt) != order.prompt_hash:
        raise _refuse("the prompt beside the order is missing or not the one it names")
    if any(one >= vocab for one in read_tokens(prompt)):
        raise _refuse(f"the prompt has tokens outside the vocabulary of {vocab}")


def _refuse(why: str) -> OrderRefused:
    return OrderRefused(FailureCode.BAD_ORDER, why)
