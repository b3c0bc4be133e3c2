"""A client orders what no verifier can judge: honest ones would be slashed for silence, or cheats paid for noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from consensus.runtime.inference import errors, settlement
from proto_specs.types import calls
from proto_specs.types.sampling import Grammar, SamplingParams
from tests.unit.consensus.runtime.inference.inference_world import World

RULES = SamplingParams(700, 0, 1000, 7)
UNJUDGEABLE: dict[str, dict[str, Any]] = {
    "top_p 0, of which no token follows": {"sampling": replace(RULES, top_p_milli=0)},
    "positions beyond the model's context": {"tokens_max": 4096},
    "a grammar that an unknown engine reads": {"sampling": replace(RULES, grammar=Grammar("mine", "1", 1, bytes(32)))},
}


@pytest.fixture(name="world")
def fixture_world() -> World:
    return World()


def serve(world: World, name: str) -> calls.Settle:
    """All parties collude: order, voucher and roots are signed by those who have to sign them."""
    return world.settle(**UNJUDGEABLE[name])


@pytest.mark.parametrize("name", UNJUDGEABLE)
def test_it_does_not_settle(world: World, name: str) -> None:
    world.chain.expect_error(world.workers[0], serve(world, name), errors.BadOrder)


@pytest.mark.parametrize("name", UNJUDGEABLE)
def test_without_the_check_it_would(world: World, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else on chain stands in the way, so the test above tests this one check."""
    monkeypatch.setattr(settlement, "validate_order", lambda order, bounds: None)
    world.chain.expect_ok(world.workers[0], serve(world, name))
