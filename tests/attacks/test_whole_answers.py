"""A client and one stage of a path take an answer and pay nobody: by withheld vouchers, roots, signatures, or early."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from consensus.runtime.inference import errors, joins, partial, queries
from consensus.runtime.inference.state import Request, StageStatus
from inference.serving.promised import Credit
from proto_specs.types.promise_calls import JoinSettlement
from proto_specs.types.request import (
    Voucher,
    compute_billed_price,
    compute_prompt_hash,
    compute_request_id,
    pack_tokens,
    sign_voucher,
)
from proto_specs.types.wire import Countersign, Frame, PrefixRoots, PromiseFrame, RootsFrame, VoucherFrame
from tests.property.inference.serving.harness import CLIENT, SESSION_KEY, Outcome, Path
from tests.unit.consensus.runtime.inference.inference_world import SLICE, World

PROMPT = tuple(range(100, 140))
TOKENS = 500
LATE_MAX = 2 * 32
"""Tokens that an honest stage may lose: those of two windows."""
Tamper = Callable[[int, int, Frame], Frame | None]


@pytest.fixture(name="world")
def fixture_world() -> World:
    world = World()
    world.session_key = SESSION_KEY
    world.session = world.open_session()
    return world


def run(world: World, tamper: Tamper) -> tuple[Path, Outcome]:
    """An answer of `TOKENS` tokens over the world's workers."""
    order = world.order(
        0,
        slice_end=10 * SLICE,
        prompt_tokens=len(PROMPT),
        prompt_hash=compute_prompt_hash(pack_tokens(PROMPT)),
        tokens_max=TOKENS,
    )
    path = Path(order, PROMPT, None, 5, tamper, keys=[one.worker_key for one in world.workers])
    return path, path.run()


def withhold(colluder: int) -> Tamper:
    """The stage computes and signs leaves, so that the answer goes on, but commits to nothing that settles."""

    def tamper(sender: int, receiver: int, frame: Frame) -> Frame | None:
        is_kept = isinstance(frame, RootsFrame | PrefixRoots) or (isinstance(frame, VoucherFrame) and receiver == 0)
        return None if sender == colluder and is_kept else frame

    return tamper


def settle_alone(world: World, path: Path, stage: int) -> JoinSettlement | None:
    """What an honest stage brings the chain after its time, if it has anything."""
    part = path.stages[stage].get_part()
    if part is not None:
        world.chain.expect_ok(world.workers[stage], part)
    return part


def read(world: World, path: Path) -> Request | None:
    return queries.read_request(world.chain.state, path.client.request)


def count_paid_tokens(world: World, path: Path, stage: int) -> int:
    """Tokens that a stage billed; the prompt has to be billed whole."""
    found = read(world, path)
    if found is None or found.stages[stage].status == StageStatus.MISSING:
        return 0
    order = path.client.order.order
    prompt = compute_billed_price(order, order.path[stage], 0, len(PROMPT))
    one_token = compute_billed_price(order, order.path[stage], 1, len(PROMPT)) - prompt
    return (found.stages[stage].gross - prompt) // one_token


@pytest.mark.parametrize("colluder", [0, 1, 2])
def test_honest_stages_are_paid_whichever_stage_withholds_what_settles(world: World, colluder: int) -> None:
    path, outcome = run(world, withhold(colluder))
    assert len(outcome.tokens) == TOKENS, "client and friend have the whole answer"
    for stage in {0, 1, 2} - {colluder}:
        settle_alone(world, path, stage)
        assert count_paid_tokens(world, path, stage) >= TOKENS - LATE_MAX
    assert count_paid_tokens(world, path, colluder) == 0


@pytest.mark.parametrize("colluder", [0, 2])
def test_without_vouchers_to_every_stage_some_would_get_nothing(world: World, colluder: int) -> None:
    """The defence removed: only the last stage has the client's word."""
    withheld = withhold(colluder)

    def tamper(sender: int, receiver: int, frame: Frame) -> Frame | None:
        return None if isinstance(frame, PromiseFrame) else withheld(sender, receiver, frame)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Credit, "allows", lambda _credit, _work: True)
        path, outcome = run(world, tamper)
    assert len(outcome.tokens) == TOKENS
    robbed = [stage for stage in {0, 1} - {colluder} if settle_alone(world, path, stage) is None]
    assert robbed == sorted({0, 1} - {colluder})


@pytest.mark.parametrize("colluder", [1, 2])
def test_who_gets_no_vouchers_computes_three_windows_and_no_more(world: World, colluder: int) -> None:
    """The client vouches to its friend alone."""

    def tamper(_sender: int, receiver: int, frame: Frame) -> Frame | None:
        return None if isinstance(frame, PromiseFrame) and receiver != colluder else frame

    path, outcome = run(world, tamper)
    assert len(outcome.tokens) <= 96 - len(PROMPT) + 1
    honest = [path.stages[stage] for stage in (0, 1) if stage != colluder]
    assert any(one.owed_by_client is not None for one in honest), "and gives up after a while"


@pytest.mark.parametrize("colluder", [1, 2])
def test_a_receiver_that_does_not_sign_what_came_gets_three_windows(world: World, colluder: int) -> None:
    """Without its signature the stage before could settle nothing, whatever was vouched for."""

    def tamper(sender: int, _receiver: int, frame: Frame) -> Frame | None:
        return None if isinstance(frame, Countersign) and sender == colluder else frame

    path, outcome = run(world, tamper)
    assert path.stages[colluder - 1].progress[1] <= 3 * 32
    assert len(outcome.tokens) <= 3 * 32


def test_an_old_voucher_settled_early_is_superseded(world: World) -> None:
    path, _ = run(world, withhold(2))
    order, request = path.client.order, path.client.request
    old = sign_voucher(Voucher(request, 25, b"t" * 32, False), SESSION_KEY)
    early = JoinSettlement(order, old, (world.stage_roots(order.order, 64)[2],))
    world.chain.expect_ok(world.workers[2], early)
    for stage in (0, 1):
        settle_alone(world, path, stage)
        assert count_paid_tokens(world, path, stage) >= TOKENS - LATE_MAX


def test_where_nothing_can_be_joined_the_first_to_settle_robs_the_others(world: World) -> None:
    """The defence removed: a settlement is final at once."""
    path, _ = run(world, withhold(2))
    order, request = path.client.order, path.client.request
    old = sign_voucher(Voucher(request, 25, b"t" * 32, False), SESSION_KEY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial, "is_complete", lambda _request: True)
        early = JoinSettlement(order, old, (world.stage_roots(order.order, 64)[2],))
        world.chain.expect_ok(world.workers[2], early)
    for stage in (0, 1):
        part = path.stages[stage].get_part()
        world.chain.expect_error(world.workers[stage], part, errors.NothingToJoin)


def settle_beyond(world: World, path: Path) -> None:
    """A friend of the client claims the whole answer for itself, by roots over rows that nobody sent."""
    order, request = path.client.order, path.client.request
    vouched = sign_voucher(Voucher(request, TOKENS, b"t" * 32, True), SESSION_KEY)
    positions = len(PROMPT) + TOKENS - 1
    claimed = JoinSettlement(order, vouched, (world.stage_roots(order.order, positions)[2],))
    world.chain.expect_ok(world.workers[2], claimed)


def test_a_partial_settlement_beyond_what_others_computed_robs_nobody(world: World) -> None:
    path, outcome = run(world, stop_vouching_after(world, 200))
    settle_beyond(world, path)
    for stage in (0, 1):
        settle_alone(world, path, stage)
        assert count_paid_tokens(world, path, stage) >= len(outcome.tokens) - LATE_MAX - 32
    found = read(world, path)
    assert found is not None
    assert [stage.challenge_ppm for stage in found.stages[1:]] == [1_000_000, 1_000_000], "they contradict each other"


def test_if_all_stages_had_to_bring_as_much_as_the_first_the_others_would_be_robbed(world: World) -> None:
    """The defence removed: roots count only over all positions that are vouched for."""
    path, _ = run(world, stop_vouching_after(world, 200))
    settle_beyond(world, path)
    check = joins.check_part_roots

    def check_all(order, request, voucher, roots):  # type: ignore[no-untyped-def]
        if any(one.roots.positions < order.prompt_tokens + voucher.tokens - 1 for one in roots):
            raise errors.BadStageRoots("less than is vouched for")
        return check(order, request, voucher, roots)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joins, "check_part_roots", check_all)
        for stage in (0, 1):
            part = path.stages[stage].get_part()
            assert part is not None
            world.chain.expect_error(world.workers[stage], part, errors.BadStageRoots)


def stop_vouching_after(world: World, tokens: int) -> Tamper:
    """The client stops vouching in the middle, and its friend, the last stage, settles nothing."""
    withheld = withhold(2)

    def tamper(sender: int, receiver: int, frame: Frame) -> Frame | None:
        is_promise = isinstance(frame, PromiseFrame | VoucherFrame) and sender == CLIENT
        if is_promise and frame.voucher.voucher.tokens > tokens:  # type: ignore[union-attr]
            return None
        return withheld(sender, receiver, frame)

    return tamper


def test_a_liar_that_joins_first_shuts_nobody_out(world: World) -> None:
    """Its neighbour joins all the same; both are drawn, and only one can open leaves that both have signed."""
    path, _ = run(world, withhold(2))
    order, request = path.client.order, path.client.request
    assert request == compute_request_id(order.order)
    vouched = sign_voucher(Voucher(request, TOKENS, b"t" * 32, True), SESSION_KEY)
    lie = JoinSettlement(order, vouched, (world.stage_roots(order.order, len(PROMPT) + TOKENS - 1)[2],))
    world.chain.expect_ok(world.workers[2], lie)
    for stage in (1, 0):
        settle_alone(world, path, stage)
        assert count_paid_tokens(world, path, stage) >= TOKENS - LATE_MAX
    found = read(world, path)
    assert found is not None
    assert found.stages[2].challenge_ppm == found.stages[1].challenge_ppm == 1_000_000
