"""A last stage sends what it may not: an answer cut short, or log-probabilities that nobody ordered."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.serving.client import ClientEffect, ClientRequest, RequestFailed
from proto_specs.types.request import sign_order
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.wire import Accepted, FinishReason, PromptLogprobs, Token
from tests.property.inference.serving.harness import SESSION_KEY, make_order

EOS = 2
PROMPT = (5, 6, 7)


def start(logprobs: int = 0, stop: tuple[bytes, ...] = ()) -> ClientRequest:
    """A client whose only stage has accepted."""
    order = make_order(PROMPT, 8, 1).order
    rules = replace(order.sampling, logprobs=logprobs, prompt_logprobs=bool(logprobs), stop=stop)
    signed = sign_order(replace(order, sampling=rules), SESSION_KEY)
    client = ClientRequest(signed, PROMPT, SESSION_KEY, b"", (EOS,))
    client.start()
    client.handle(0, Accepted(client.request))
    return client


def is_refused(effects: list[ClientEffect]) -> bool:
    return any(isinstance(one, RequestFailed) for one in effects)


def test_an_answer_cut_short_is_not_paid_to_its_end() -> None:
    """The prompt earns most of a long conversation's price: a worker that stops at once is paid for a word."""
    for token, is_lie in ((EOS, False), (9, True)):
        client = start()
        assert is_refused(client.handle(0, Token(client.request, 0, token, FinishReason.STOP))) == is_lie
        assert client.vouched == -1, "nothing is promised for it"


def test_an_end_by_a_stop_string_is_not_told_by_its_token() -> None:
    client = start(stop=(b"x",))
    assert not is_refused(client.handle(0, Token(client.request, 0, 9, FinishReason.STOP)))


OWN, OTHER = TokenLogprob(9, -5), TokenLogprob(4, -7)


@pytest.mark.parametrize("scores", [(), (OTHER, OWN), (OWN, OTHER, OTHER)])
def test_log_probabilities_are_those_ordered(scores: tuple[TokenLogprob, ...]) -> None:
    """Whoever reads them takes the first for the token's own."""
    client = start(logprobs=2)
    assert is_refused(client.handle(0, Token(client.request, 0, 9, FinishReason.NONE, scores)))
    client = start(logprobs=2)
    assert is_refused(client.handle(0, PromptLogprobs(client.request, 0, (scores,))))
    client = start(logprobs=2)
    assert not is_refused(client.handle(0, Token(client.request, 0, 9, FinishReason.NONE, (OWN, OTHER))))
    assert not is_refused(client.handle(0, PromptLogprobs(client.request, 0, ((TokenLogprob(6, -1),),))))


def test_none_come_where_none_were_ordered() -> None:
    client = start()
    assert is_refused(client.handle(0, Token(client.request, 0, 9, FinishReason.NONE, (OWN,))))
