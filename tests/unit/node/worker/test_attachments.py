"""What comes beside an order: exactly what the last stage's rules read, and nothing to any other."""

from __future__ import annotations

from dataclasses import replace

import pytest

from node.worker.attachments import check_attached
from node.worker.refusal import OrderRefused
from proto_specs.types.request import SignedOrder, compute_prompt_hash, pack_tokens
from proto_specs.types.sampling import GrammarKind, make_grammar
from proto_specs.types.wire import FailureCode, OpenRequest
from tests.property.inference.serving.harness import make_order

PROMPT = tuple(range(40))
PACKED = pack_tokens(PROMPT)
TEXT = b'{"type":"integer"}'
VOCAB = 1000
LAST = 2


def make(reads_prompt: bool = False, has_grammar: bool = False) -> SignedOrder:
    signed = make_order(PROMPT, 9, 3)
    sampling = signed.order.sampling
    if reads_prompt:
        sampling = replace(sampling, repetition_penalty_milli=1100)
    if has_grammar:
        sampling = replace(sampling, grammar=make_grammar(GrammarKind.JSON_SCHEMA, TEXT))
    return replace(signed, order=replace(signed.order, sampling=sampling))


@pytest.mark.parametrize("stage", [0, 1, LAST])
@pytest.mark.parametrize("reads_prompt", [False, True])
@pytest.mark.parametrize("has_grammar", [False, True])
@pytest.mark.parametrize("prompt", [b"", PACKED])
@pytest.mark.parametrize("grammar", [b"", TEXT])
def test_attachments_are_there_where_they_are_read_and_nowhere_else(
    stage: int, reads_prompt: bool, has_grammar: bool, prompt: bytes, grammar: bytes
) -> None:
    opened = OpenRequest(make(reads_prompt, has_grammar), prompt, grammar)
    wants = (stage == LAST and reads_prompt, stage == LAST and has_grammar)
    if wants == (bool(prompt), bool(grammar)):
        check_attached(opened, stage, VOCAB)
        return
    with pytest.raises(OrderRefused) as caught:
        check_attached(opened, stage, VOCAB)
    assert caught.value.code == FailureCode.BAD_ORDER


@pytest.mark.parametrize("prompt", [PACKED[:-4], PACKED[:-1], PACKED + bytes(4), pack_tokens(PROMPT[::-1]), b"x"])
def test_another_prompt_is_refused(prompt: bytes) -> None:
    with pytest.raises(OrderRefused, match="prompt"):
        check_attached(OpenRequest(make(reads_prompt=True), prompt), LAST, VOCAB)


def test_a_prompt_of_another_length_than_the_order_says_is_refused() -> None:
    signed = make(reads_prompt=True)
    order = replace(signed.order, prompt_tokens=39)
    with pytest.raises(OrderRefused, match="prompt"):
        check_attached(OpenRequest(replace(signed, order=order), PACKED), LAST, VOCAB)


def test_a_prompt_beyond_the_vocabulary_is_refused() -> None:
    packed = pack_tokens((*PROMPT[:-1], VOCAB))
    signed = make(reads_prompt=True)
    signed = replace(signed, order=replace(signed.order, prompt_hash=compute_prompt_hash(packed)))
    check_attached(OpenRequest(signed, packed), LAST, VOCAB + 1)
    with pytest.raises(OrderRefused, match="outside the vocabulary"):
        check_attached(OpenRequest(signed, packed), LAST, VOCAB)


def test_another_grammar_is_refused() -> None:
    with pytest.raises(OrderRefused, match="grammar"):
        check_attached(OpenRequest(make(has_grammar=True), b"", TEXT + b" "), LAST, VOCAB)
