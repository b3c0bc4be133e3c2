"""The table of a request's phases: whole, and walked by real requests through every pair that is not a bug of ours."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inference.serving import stage as stage_module
from inference.serving.events import Computed, Conclude, Finished, GiveUp, StageEffect, StageInput, Stop
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from inference.serving.stage_phases import OVER, STAGE_TABLE, StageEvent, StagePhase, StageRefusal, advance_stage
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import (
    Leaf,
    SignedOrder,
    StageRoots,
    Voucher,
    sign_input,
    sign_output,
    sign_stage_roots,
    sign_voucher,
)
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    OutputLeaf,
    PrefixRoots,
    PromiseFrame,
    RootsFrame,
    Rows,
    Token,
    VoucherFrame,
)
from tests.property.inference.serving.harness import HIDDEN, SESSION_KEY, WORKER_KEYS, Path, make_manifest, make_order

Pair = tuple[StagePhase, StageEvent]

PAIRS = {(phase, event): found for phase, row in STAGE_TABLE.items() for event, found in row.items()}
LIVE_PAIRS = {pair for pair, found in PAIRS.items() if found is not StageRefusal.NEVER}
GONE = Stop(FailureCode.CANCELLED, "the client went away")


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> set[Pair]:
    """The pairs that requests look up while the test runs."""
    seen: set[Pair] = set()

    def record(phase: StagePhase, event: StageEvent) -> StagePhase | StageRefusal:
        seen.add((phase, event))
        return advance_stage(phase, event)

    monkeypatch.setattr(stage_module, "advance_stage", record)
    return seen


def test_every_pair_is_in_the_table() -> None:
    assert set(STAGE_TABLE) == set(StagePhase)
    for phase, row in STAGE_TABLE.items():
        assert set(row) == set(StageEvent), phase


def test_every_phase_is_reached_from_the_first_and_the_final_ones_keep_what_they_are() -> None:
    reached = {StagePhase.SERVING}
    while more := {to for (phase, _), to in PAIRS.items() if phase in reached and isinstance(to, StagePhase)} - reached:
        reached |= more
    assert reached == set(StagePhase)
    for phase in OVER:
        left = {(event, to) for event, to in STAGE_TABLE[phase].items() if isinstance(to, StagePhase)}
        assert left == ({(StageEvent.CONCLUDED, StagePhase.FINISHED)} if phase is StagePhase.FAILED else set())


@pytest.mark.parametrize(
    "pair", sorted(set(PAIRS) - LIVE_PAIRS, key=str), ids=lambda pair: f"{pair[0].name}-{pair[1].name}"
)
def test_what_no_input_leads_to_is_a_bug_of_ours(pair: Pair) -> None:
    with pytest.raises(AssertionError, match=pair[1].name):
        advance_stage(*pair)


def test_real_requests_take_every_pair_of_the_table(taken: set[Pair]) -> None:
    for walk in (walk_honest_requests, walk_lost_clients, walk_stop_at_the_exact_length, walk_frames_in_every_phase):
        walk()
    assert LIVE_PAIRS - taken == set()
    assert taken - LIVE_PAIRS == set()


def test_a_phase_of_a_request_is_the_one_that_its_story_tells() -> None:
    for phase, make in MAKERS.items():
        assert make().phase is phase, phase


# Whole paths --------------------------------------------------------------------------------------------------------


def walk_honest_requests() -> None:
    for stages in (1, 2, 3):
        for seed in range(8):
            prompt = tuple(range(100, 110))
            outcome = Path(make_order(prompt, 55, stages), prompt, None, seed).run()
            assert outcome.finished == set(range(stages))


def walk_lost_clients() -> None:
    for seed in range(8):
        for gone_after in range(0, 900, 60):
            prompt = tuple(range(100, 140))
            Path(make_order(prompt, 60, 3), prompt, None, seed, gone_after=gone_after).run()


# One stage, brought to each phase -----------------------------------------------------------------------------------


def make_stage(stage: int, order: SignedOrder | None = None) -> StageRequest:
    order = make_order((100,), 1, 3) if order is None else order
    return StageRequest(StageSetup(order, stage, make_manifest(), SESSION_KEY.public_key, WORKER_KEYS[stage]))


def make_leaf(request: StageRequest, stage: int) -> OutputLeaf:
    """The sender's leaf over the rows of the first window."""
    leaf = request._input.make_leaf(0)  # noqa: SLF001
    return OutputLeaf(leaf, sign_output(leaf, WORKER_KEYS[stage - 1] if stage else SESSION_KEY))


def make_roots(request: StageRequest) -> RootsFrame:
    """Roots of stage 0 over the one window that stage 1 has countersigned."""
    own = request._input  # noqa: SLF001
    first = StageRoots(request.request, 0, 1, own.positions, b"i" * 32, own.compute_root())
    return RootsFrame((sign_stage_roots(first, WORKER_KEYS[0]),))


def make_serving() -> StageRequest:
    return make_stage(1)


def make_fed() -> StageRequest:
    """Two rows came, and a leaf over no more than those."""
    request = make_stage(1, make_order((100, 101), 1, 3))
    request.handle(Rows(request.request, 1, 0, 2, bytes(8 * HIDDEN)))
    request.handle(make_leaf(request, 1))
    return request


def make_stopped() -> StageRequest:
    request = make_stage(1)
    request.handle(GONE)
    return request


def make_cut() -> StageRequest:
    """The client vouches for nothing but the prompt's one window."""
    prompt = tuple(range(100, 132))
    request = make_stage(0, make_order(prompt, 40, 3))
    request.handle(Rows(request.request, 0, 0, 32, b"".join(token.to_bytes(4, "little") for token in prompt)))
    request.handle(make_leaf(request, 0))
    request.handle(Computed(0, 32, bytes(32 * 4 * HIDDEN), b"", ()))
    request.handle(make_voucher(request))
    return request


def make_failed() -> StageRequest:
    request = make_stage(1)
    request.handle(Failed(request.request, FailureCode.INTERNAL, "broken"))
    return request


def make_finished() -> StageRequest:
    prompt = (100,)
    path = Path(make_order(prompt, 1, 3), prompt, None, seed=1)
    path.run()
    return path.stages[1]


MAKERS: dict[StagePhase, Callable[[], StageRequest]] = {
    StagePhase.SERVING: make_serving,
    StagePhase.FED: make_fed,
    StagePhase.STOPPED: make_stopped,
    StagePhase.CUT: make_cut,
    StagePhase.FINISHED: make_finished,
    StagePhase.FAILED: make_failed,
}


def make_voucher(request: StageRequest) -> VoucherFrame:
    return VoucherFrame(sign_voucher(Voucher(request.request, 0, ZERO_HASH, False), SESSION_KEY))


def walk_frames_in_every_phase() -> None:
    """What the other side may send at any time, wrong as it may be, to a request in each phase."""
    for phase, make in MAKERS.items():
        own = make().request
        leaf = Leaf(own, 1, 0, 0, 1, HIDDEN, 0, ZERO_HASH, ZERO_HASH, ZERO_HASH)
        frames: list[StageInput] = [
            Rows(own, 1, 0, 1, bytes(4 * HIDDEN)),
            Token(own, 0, 5, 0),
            OutputLeaf(leaf, bytes(64)),
            Computed(0, 1, bytes(4 * HIDDEN), b"", ()),
            Countersign(own, 2, 0, bytes(64)),
            make_voucher(make()),
            PromiseFrame(make_voucher(make()).voucher),
            RootsFrame(()),
            GONE,
            Accepted(own),
            Failed(own, FailureCode.INTERNAL, "broken"),
            PrefixRoots(()),
            Conclude(0),
        ]
        for frame in frames:
            request = make()
            effects = request.handle(frame)
            if isinstance(frame, Conclude):
                assert request.phase is StagePhase.FINISHED
                assert effects == ([] if phase is StagePhase.FINISHED else [Finished()])
                continue
            assert (request.phase is StagePhase.FAILED) == (phase is StagePhase.FAILED or has_given_up(effects))
            assert effects == [] or phase not in OVER


def has_given_up(effects: list[StageEffect]) -> bool:
    return any(isinstance(effect, GiveUp) for effect in effects)


def walk_stop_at_the_exact_length() -> None:
    """A middle stage that stopped with everything sent and one signature missing has just what is settled."""
    request = make_stage(1, make_order(tuple(range(100, 132)), 40, 3))
    request.handle(Rows(request.request, 1, 0, 32, bytes(32 * 4 * HIDDEN)))
    request.handle(make_leaf(request, 1))
    request.handle(Computed(0, 32, bytes(32 * 4 * HIDDEN), b"", ()))
    request.handle(GONE)
    assert request.phase is StagePhase.STOPPED
    assert request.handle(make_roots(request)) == []
    assert request.phase is StagePhase.STOPPED
    leaf = request._output.get_leaf(0)  # noqa: SLF001
    assert leaf is not None
    request.handle(Countersign(request.request, 2, 0, sign_input(leaf, WORKER_KEYS[2])))
    assert request.phase is StagePhase.FINISHED
