"""A client that goes away at any moment pays what it vouched for, by the chain's own rules; no schedule gets stuck."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consensus.runtime.inference.settlement import check_stage_roots, check_voucher
from consensus.runtime.inference.state import Session
from inference.serving.opening import authenticate_opening
from inference.serving.record import make_opening
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.request import compute_positions, compute_windows
from proto_specs.types.wire import Countersign, Frame, VoucherFrame
from tests.property.inference.serving.harness import CLIENT, SESSION_KEY, Outcome, Path, make_manifest, make_order


class Vouched:
    """Watches what the client has signed for the last stage."""

    def __init__(self) -> None:
        self.tokens = 0

    def tamper(self, sender: int, receiver: int, frame: Frame) -> Frame:
        if isinstance(frame, VoucherFrame) and sender == CLIENT:
            self.tokens = frame.voucher.voucher.tokens
        return frame


def assert_chain_takes(path: Path, outcome: Outcome) -> None:
    settle = outcome.settlement
    assert settle is not None
    session = Session(bytes(32), ZERO_HASH, SESSION_KEY.public_key, 0, 9, 9**9, 0, 9**9, 9, 0, 0, 0, 0, 0, False)
    check_voucher(session, settle.order.order, path.client.request, settle.voucher)
    check_stage_roots(settle.order.order, path.client.request, settle.voucher, settle.stage_roots)


def run(
    prompt_tokens: int, tokens_max: int, stages: int, seed: int, gone_after: int | None
) -> tuple[Path, Outcome, int]:
    prompt, vouched = tuple(range(100, 100 + prompt_tokens)), Vouched()
    path = Path(make_order(prompt, tokens_max, stages), prompt, None, seed, vouched.tamper, gone_after)
    return path, path.run(), vouched.tokens


@settings(max_examples=400, deadline=None)
@given(
    prompt_tokens=st.integers(1, 70),
    tokens_max=st.integers(1, 150),
    stages=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32),
    gone_after=st.integers(0, 1500),
)
def test_what_was_vouched_is_settled(prompt_tokens, tokens_max, stages, seed, gone_after) -> None:
    path, outcome, vouched = run(prompt_tokens, tokens_max, stages, seed, gone_after)
    if not vouched:
        assert outcome.settlement is None or outcome.settlement.voucher.voucher.tokens == 0
        return
    assert outcome.gave_up == {}
    assert outcome.finished == set(range(stages))
    assert_chain_takes(path, outcome)
    assert outcome.settlement is not None
    assert outcome.settlement.voucher.voucher.tokens == vouched
    total = outcome.settlement.stage_roots[0].roots.positions
    assert total - compute_positions(prompt_tokens, vouched) < 32
    if compute_windows(total) < compute_windows(compute_positions(prompt_tokens, len(outcome.tokens))):
        assert outcome.freed == set(range(stages))


def test_a_cut_request_opens_like_any_other() -> None:
    _, outcome, vouched = run(40, 150, 3, seed=5, gone_after=900)
    assert 0 < vouched < 150
    assert outcome.settlement is not None
    for stage, signed in enumerate(outcome.settlement.stage_roots):
        for window in range(compute_windows(signed.roots.positions)):
            opening = make_opening(outcome.records[stage], window)
            authenticate_opening(opening, signed.roots, window, SESSION_KEY.public_key, make_manifest())


def test_a_client_that_has_signed_everything_is_not_needed() -> None:
    prompt = tuple(range(100, 110))
    path = Path(make_order(prompt, 20, 3), prompt, None, seed=2)
    answer = path.do_client

    def answer_and_go(effects: list[object]) -> None:
        answer(effects)
        if path.client.is_signed and path.gone_after is None:
            path.lose_client()

    path.do_client = answer_and_go
    outcome = path.run()
    assert outcome.settlement is not None
    assert outcome.settlement.voucher.voucher.final
    assert outcome.finished == {0, 1, 2}


def test_a_client_that_never_signs_gets_three_windows_and_nothing_is_settled() -> None:
    def tamper(sender: int, receiver: int, frame: Frame) -> Frame | None:
        is_signature = isinstance(frame, VoucherFrame | Countersign) and sender == CLIENT
        return None if is_signature else frame

    prompt = tuple(range(100, 110))
    path = Path(make_order(prompt, 400, 3), prompt, None, seed=3, tamper=tamper)
    outcome = path.run()
    assert len(outcome.tokens) == 96 - len(prompt) + 1, "of positions that nobody vouched for"
    assert outcome.settlement is None
    assert path.stages[2].owed_by_client is not None
