"""A batched request at its client: it ends with roots over exactly what was sent to the path and came of it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, StatementAwaited, ToStage
from inference.serving.statements import make_leaf
from proto_specs.types.calls import Settle
from proto_specs.types.request import SignedStageRoots, sign_stage_roots
from proto_specs.types.wire import OpenRequest, RootsFrame, Settled
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, Path, make_order

PROMPT = tuple(range(100, 145))
STAGES = 3


def run(batched: bool = True, tokens: int = 40) -> tuple[ClientRequest, Settle]:
    """A client that has signed everything, and what settles its request."""
    order = make_order(PROMPT, tokens, STAGES)
    path = Path(order, PROMPT, None, seed=5)
    path.client = ClientRequest(order, PROMPT, SESSION_KEY, batched=batched)
    outcome = path.run()
    assert outcome.settlement is not None
    assert path.client.is_signed
    return path.client, outcome.settlement


def list_roots(settle: Settle) -> list[SignedStageRoots]:
    return [one for one in settle.stage_roots if one is not None]


def test_every_stage_is_told_the_wish() -> None:
    order = make_order(PROMPT, 40, STAGES)
    for batched in (False, True):
        effects = ClientRequest(order, PROMPT, SESSION_KEY, batched=batched).start()
        told = [one.frame for one in effects if isinstance(one, ToStage)]
        assert [isinstance(one, OpenRequest) and one.batched for one in told] == [batched] * STAGES


@pytest.mark.parametrize("tokens", [1, 20, 40])
def test_it_ends_with_all_that_a_leaf_is_made_of(tokens: int) -> None:
    client, settle = run(tokens=tokens)
    (effect,) = client.handle(STAGES - 1, RootsFrame(tuple(list_roots(settle))))
    assert isinstance(effect, StatementAwaited)
    finished = effect.finished
    assert (finished.signed, finished.voucher) == (settle.order, settle.voucher)
    leaf = make_leaf(finished.order, finished.voucher.voucher, finished.boundaries, finished.positions)
    assert (leaf.final, leaf.tokens, leaf.positions) == (True, tokens, len(PROMPT) + tokens - 1)
    assert len(leaf.boundaries) == STAGES + 1


def test_a_last_stage_may_settle_it_all_the_same() -> None:
    client, _ = run()
    assert client.handle(STAGES - 1, Settled(client.request, bytes(32))) == [SettlementSent(bytes(32))]


def resign(roots: list[SignedStageRoots], stage: int, **changes: object) -> list[SignedStageRoots]:
    """The roots with one that its stage has signed over something else."""
    changed = replace(roots[stage].roots, **changes)  # type: ignore[arg-type]
    return [*roots[:stage], sign_stage_roots(changed, WORKER_KEYS[stage]), *roots[stage + 1 :]]


def test_roots_over_anything_else_are_none() -> None:
    client, settle = run()
    honest = list_roots(settle)
    others = list_roots(run(tokens=39)[1])
    wrong = [
        [],
        honest[:-1],
        [*honest, honest[-1]],
        others,
        resign(honest, 0, input_root=bytes(32)),
        resign(honest, 2, output_root=bytes(32)),
        resign(honest, 1, output_root=bytes(32)),
        [replace(honest[0], signature=bytes(64)), *honest[1:]],
        [
            sign_stage_roots(replace(one.roots, positions=64, windows=2), WORKER_KEYS[at])
            for at, one in enumerate(honest)
        ],
    ]
    for roots in wrong:
        (effect,) = client.handle(STAGES - 1, RootsFrame(tuple(roots)))
        assert isinstance(effect, RequestFailed), roots


@pytest.mark.parametrize("stage", [0, 1])
def test_only_the_last_stage_sends_them_and_only_when_asked_to(stage: int) -> None:
    client, settle = run()
    roots = RootsFrame(tuple(list_roots(settle)))
    (effect,) = client.handle(stage, roots)
    assert isinstance(effect, RequestFailed)
    plain, _ = run(batched=False)
    (effect,) = plain.handle(STAGES - 1, roots)
    assert isinstance(effect, RequestFailed)
