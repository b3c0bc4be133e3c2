"""Whatever a first stage drafts, a request settles as it does without; who drafts against the rules is refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inference.serving.opening import authenticate_opening
from inference.serving.record import RequestRecord, make_opening
from proto_specs.limits import DRAFT_MISSES_FREE, DRAFT_MISSES_PER_TOKEN, DRAFT_TOKENS_MAX
from proto_specs.types.wire import Frame, Rows, Token
from tests.property.inference.serving.harness import (
    CLIENT,
    EOS,
    SESSION_KEY,
    Drafts,
    Outcome,
    Path,
    make_manifest,
    make_order,
)

TURNS = st.lists(st.tuples(st.integers(0, 31), st.integers(0, 31)), min_size=1, max_size=6)
Tamper = Callable[[int, int, Frame], Frame | None]


def make_path(
    prompt_tokens: int,
    tokens_max: int,
    stages: int,
    seed: int,
    turns: Sequence[tuple[int, int]] = (),
    eos_after: int | None = None,
    tamper: Tamper | None = None,
) -> Path:
    prompt = tuple(range(100, 100 + prompt_tokens))
    truth = [EOS if at == eos_after else 1000 + prompt_tokens - 1 + at for at in range(tokens_max)]
    drafts = Drafts(turns, truth) if turns else None
    return Path(make_order(prompt, tokens_max, stages), prompt, eos_after, seed, tamper, drafts=drafts)


def get_sent(path: Path) -> list[int]:
    """Drafted rows by call."""
    assert path.drafts is not None
    return path.drafts.sent


def list_unvouched(outcome: Outcome) -> dict[int, RequestRecord]:
    """What the stages keep, but for the client's last promise, which may come when a stage in the middle is done."""
    return {stage: replace(one, voucher=None) for stage, one in outcome.records.items()}


@settings(max_examples=200, deadline=None)
@given(
    prompt_tokens=st.integers(1, 100),
    tokens_max=st.integers(1, 150),
    stages=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32),
    eos=st.one_of(st.none(), st.integers(0, 150)),
    turns=TURNS,
)
def test_a_drafted_request_settles_as_one_that_is_not(prompt_tokens, tokens_max, stages, seed, eos, turns) -> None:
    """Tokens, leaves, roots and signatures: all is equal, to the byte."""
    plain = make_path(prompt_tokens, tokens_max, stages, seed + 1, eos_after=eos).run()
    outcome = make_path(prompt_tokens, tokens_max, stages, seed, turns, eos).run()
    assert (outcome.client_failed, outcome.gave_up) == (None, {})
    assert (outcome.tokens, outcome.finish) == (plain.tokens, plain.finish)
    assert outcome.finished == set(range(stages))
    assert outcome.settlement == plain.settlement
    assert outcome.settlement is not None
    assert list_unvouched(outcome) == list_unvouched(plain)
    for stage, signed in enumerate(outcome.settlement.stage_roots):
        for window in range(signed.roots.windows):
            opening = make_opening(outcome.records[stage], window)
            authenticate_opening(opening, signed.roots, window, SESSION_KEY.public_key, make_manifest())


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 2**32), gone_after=st.integers(0, 700), turns=TURNS)
def test_a_client_that_leaves_in_mid_burst_pays_what_it_vouched_for(seed, gone_after, turns) -> None:
    path = make_path(40, 120, 3, seed, turns)
    path.gone_after = gone_after
    outcome = path.run()
    if outcome.settlement is not None:
        positions = outcome.settlement.stage_roots[0].roots.positions
        assert positions % 32 == 0 or positions == 159
        assert all(one.roots.positions == positions for one in outcome.settlement.stage_roots)
        assert outcome.finished == {0, 1, 2}


def test_right_drafts_save_round_trips() -> None:
    path = make_path(40, 150, 3, 1, [(31, 31)])
    path.run()
    assert len(get_sent(path)) <= 1 + 150 // 25
    plain = make_path(40, 150, 3, 1, [(0, 0)])
    plain.run()
    assert len(get_sent(plain)) == 149


def test_a_first_stage_that_drafts_in_vain_drafts_less() -> None:
    """Its own count keeps it within what the stages behind it take."""
    path = make_path(40, 150, 3, 1, [(31, 0)])
    assert path.run().settlement is not None
    assert sum(get_sent(path)) <= DRAFT_MISSES_FREE + DRAFT_MISSES_PER_TOKEN * 150
    assert get_sent(path)[0] > get_sent(path)[30]


@pytest.mark.parametrize("stage", [1, 2])
def test_garbage_drafts_are_refused_beyond_a_share(stage: int) -> None:
    """The attack: a first stage has others compute what nobody pays."""
    path = make_path(40, 150, 3, 1, [(31, 0)])
    for one in path.stages[:stage]:
        one._flow._allowance.get_room = lambda _position: DRAFT_TOKENS_MAX  # type: ignore[method-assign] # noqa: SLF001
    outcome = path.run()
    assert outcome.settlement is None
    assert "in vain" in outcome.gave_up[stage].message
    refused = get_sent(path)[-1]
    assert sum(get_sent(path)) - refused <= DRAFT_MISSES_FREE + DRAFT_MISSES_PER_TOKEN * len(get_sent(path))


def change_drafts(change: Callable[[Rows], Rows], sender: int) -> Tamper:
    def tamper(found: int, _to: int, frame: Frame) -> Frame:
        return change(frame) if isinstance(frame, Rows) and frame.draft and found == sender else frame

    return tamper


def swap_first(rows: Rows) -> Rows:
    return replace(rows, draft=(2, *rows.draft[1:]))


def say_less(rows: Rows) -> Rows:
    return replace(rows, draft=rows.draft[1:])


def say_nothing(rows: Rows) -> Rows:
    return replace(rows, draft=())


def drop_rows(rows: Rows) -> Rows:
    size = len(rows.payload) // rows.count
    return replace(rows, count=1, payload=rows.payload[:size], draft=())


def lie_right(rows: Rows) -> Rows:
    """Wrong rows pass as those of the tokens that are drawn."""
    return replace(rows, draft=tuple(1000 + rows.start + at for at in range(len(rows.draft))))


@pytest.mark.parametrize("sender", [0, 1])
@pytest.mark.parametrize("change", [swap_first, say_less, say_nothing, drop_rows, lie_right])
@pytest.mark.parametrize("seed", range(4))
def test_a_stage_that_changes_a_draft_ends_the_request(change, sender: int, seed: int) -> None:
    """Its neighbours' logs differ from then on, so what is settled is what all have signed before: nothing to gain."""
    outcome = make_path(40, 90, 3, seed, [(6, 3)], tamper=change_drafts(change, sender)).run()
    assert outcome.settlement is None
    assert len(outcome.tokens) < 90


@pytest.mark.parametrize("seed", range(4))
def test_rows_that_take_back_a_draft_before_its_answer_are_refused(seed: int) -> None:
    def tamper(sender: int, receiver: int, frame: Frame) -> Frame | None:
        if sender == 0 and isinstance(frame, Rows) and frame.draft and frame.start >= 45:
            size = len(frame.payload) // frame.count
            path.links[(sender, receiver)].append(frame)
            return replace(frame, start=frame.start + 1, count=1, payload=frame.payload[:size], draft=())
        return frame

    path = make_path(40, 90, 3, seed, [(6, 3)])
    path.tamper = tamper
    outcome = path.run()
    assert outcome.settlement is None
    assert set(outcome.gave_up) & {1, 2}


def test_a_token_before_its_rows_is_refused() -> None:
    def tamper(_sender: int, receiver: int, frame: Frame) -> Frame:
        if isinstance(frame, Token) and receiver == 0 and frame.index == 5:
            path.links[(2, 0)].append(frame)
            return replace(frame, index=6)
        return frame

    path = make_path(40, 90, 3, 1, [(0, 0)], tamper=tamper)
    path.tamper = tamper
    outcome = path.run()
    assert "before the rows" in outcome.gave_up[0].message


def test_clients_send_no_drafts() -> None:
    def tamper(sender: int, _receiver: int, frame: Frame) -> Frame:
        is_prompt = sender == CLIENT and isinstance(frame, Rows) and frame.start == 32
        return replace(frame, draft=(131,)) if is_prompt else frame

    outcome = make_path(40, 90, 3, 1, [(0, 0)], tamper=tamper).run()
    assert outcome.gave_up[0]
    assert outcome.settlement is None
