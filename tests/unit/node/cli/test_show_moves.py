"""What a terminal shows of an answer that lost workers: who, when, who went on; and what is left of the escrow."""

from __future__ import annotations

import io
from types import SimpleNamespace
from typing import Any, cast

import pytest
from rich.console import Console

from consensus.runtime.inference.state import SessionStatus
from node.cli.show_inference import InferenceScreen
from node.client.answer import Move, OrderedPart
from proto_specs.ss58 import encode_address
from tests.unit.node.gateway.fake_inference import make_tokenizer

PREFIX = 42
CHARLIE, EVE = b"c" * 32, b"e" * 32
NAMES = {encode_address(CHARLIE, PREFIX): "charlie", encode_address(EVE, PREFIX): "eve"}
REASON = "stage 1 (worker 636363636363) went away (stream reset)"


def make_screen() -> tuple[InferenceScreen, io.StringIO]:
    out = io.StringIO()
    return InferenceScreen(Console(file=out, width=200), make_tokenizer(), PREFIX, NAMES), out


def make_answer(*moves: Move) -> Any:
    known = {one: SimpleNamespace(operator=one) for one in (CHARLIE, EVE)}
    parts = [OrderedPart(b"1" * 32, b"s" * 32, (), 5), OrderedPart(b"2" * 32, b"s" * 32, (), 7)]
    return cast("Any", SimpleNamespace(moves=moves, known=known, parts=parts, request=b"2" * 32))


def test_a_move_is_told_in_one_line() -> None:
    screen, out = make_screen()
    screen.finish = "stop"
    screen.show_moves(make_answer(Move(CHARLIE, REASON, 23, 1.0, 1.8, (EVE,))))
    assert out.getvalue() == "      lost  charlie after 23 tokens (went away); eve goes on, 0.8 s later\n"


def test_nobody_may_go_on() -> None:
    screen, out = make_screen()
    screen.show_moves(make_answer(Move(CHARLIE, REASON, 23, 1.0)))
    assert "charlie after 23 tokens (went away); nobody went on" in out.getvalue()


def test_every_request_that_is_owed_is_named_with_its_cost() -> None:
    screen, out = make_screen()
    screen.finish = "stop"
    screen.show_cost(make_answer())
    assert out.getvalue().count("its verification:") == 2
    assert "31" * 32 in out.getvalue()
    assert "32" * 32 in out.getvalue()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (SessionStatus.CLOSING, "comes back in block 47; the notice cost 0.00000007 MYL"),
        (SessionStatus.OPEN, "is left in the open session: the next run closes it"),
        (SessionStatus.CLOSED, ""),
    ],
)
def test_what_becomes_of_the_rest_of_the_escrow(status: SessionStatus, words: str) -> None:
    screen, out = make_screen()
    found = SimpleNamespace(status=status, escrow=350_400_000, close_height=47)
    screen.show_rest(b"s" * 32, cast("Any", found), 70)
    assert words in out.getvalue()
    assert bool(out.getvalue()) == bool(words)
