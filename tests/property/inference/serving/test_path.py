"""Every schedule of frames settles an honest request and all stages agree; no tampering is ever settled."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.merkle import compute_root
from proto_specs.types.request import (
    compute_leaf_hash,
    compute_positions,
    compute_windows,
    is_input_signed,
    is_output_signed,
    is_stage_roots_signed,
)
from proto_specs.types.wire import FailureCode, FinishReason, Frame, OutputLeaf, Rows, Token, VoucherFrame
from tests.property.inference.serving.harness import CLIENT, EOS, SESSION_KEY, WORKER_KEYS, Path, make_order


def run(prompt_tokens: int, tokens_max: int, stages: int, seed: int, eos_after: int | None = None, tamper=None):
    prompt = tuple(range(100, 100 + prompt_tokens))
    path = Path(make_order(prompt, tokens_max, stages), prompt, eos_after, seed, tamper)
    return path, path.run()


@settings(max_examples=60, deadline=None)
@given(
    prompt_tokens=st.integers(1, 100),
    tokens_max=st.integers(1, 150),
    stages=st.sampled_from([1, 2, 3]),
    seed=st.integers(0, 2**32),
    eos=st.one_of(st.none(), st.integers(0, 150)),
)
def test_honest_request_settles_under_every_schedule(prompt_tokens, tokens_max, stages, seed, eos) -> None:
    _, outcome = run(prompt_tokens, tokens_max, stages, seed, eos)
    assert outcome.client_failed is None
    assert outcome.gave_up == {}
    count = tokens_max if eos is None else min(tokens_max, eos + 1)
    assert len(outcome.tokens) == count
    assert outcome.finish == (FinishReason.STOP if outcome.tokens[-1] == EOS else FinishReason.LENGTH)
    assert outcome.finished == set(range(stages))
    assert outcome.is_settlement_announced
    settle = outcome.settlement
    assert settle is not None
    assert settle.voucher.voucher.tokens == count
    assert settle.voucher.voucher.final
    positions = compute_positions(prompt_tokens, count)
    for stage, signed in enumerate(settle.stage_roots):
        record = outcome.records[stage]
        assert is_stage_roots_signed(signed, WORKER_KEYS[stage].public_key)
        assert (signed.roots.positions, signed.roots.windows) == (positions, compute_windows(positions))
        hashes = [compute_leaf_hash(one.leaf) for one in record.input_leaves]
        assert signed.roots.input_root == compute_root(hashes)
        assert sum(one.leaf.count for one in record.output_leaves) == positions
        if stage:
            assert signed.roots.input_root == settle.stage_roots[stage - 1].roots.output_root
            assert record.input_payloads == outcome.records[stage - 1].output_payloads


def test_leaves_carry_both_neighbours_signatures() -> None:
    _, outcome = run(40, 40, 3, seed=1)
    keys = [SESSION_KEY, *WORKER_KEYS, SESSION_KEY]
    for stage in range(3):
        for leaves, boundary in (
            (outcome.records[stage].input_leaves, stage),
            (outcome.records[stage].output_leaves, stage + 1),
        ):
            for one in leaves:
                assert one.leaf.boundary == boundary
                assert is_output_signed(one.leaf, keys[boundary].public_key, one.output_signature)
                assert is_input_signed(one.leaf, keys[boundary + 1].public_key, one.input_signature)


def flip(payload: bytes) -> bytes:
    return bytes([payload[0] ^ 1]) + payload[1:]


def tamper_rows(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, Rows) and sender == 0 and frame.start == 32:
        return dataclasses.replace(frame, payload=flip(frame.payload))
    return frame


def tamper_prompt(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, Rows) and sender == CLIENT and frame.start == 0:
        return dataclasses.replace(frame, payload=flip(frame.payload))
    return frame


def tamper_leaf_signature(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, OutputLeaf) and sender == 1:
        return dataclasses.replace(frame, signature=flip(frame.signature))
    return frame


def tamper_token_to_first(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, Token) and receiver == 0 and frame.index == 3:
        return dataclasses.replace(frame, token=frame.token + 1)
    return frame


def tamper_token_to_client(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, Token) and receiver == CLIENT and frame.index == 3:
        return dataclasses.replace(frame, token=frame.token + 1)
    return frame


def tamper_voucher(sender: int, receiver: int, frame: Frame) -> Frame:
    if isinstance(frame, VoucherFrame):
        voucher = dataclasses.replace(frame.voucher.voucher, tokens=1)
        return VoucherFrame(dataclasses.replace(frame.voucher, voucher=voucher))
    return frame


@pytest.mark.parametrize(
    "tamper",
    [tamper_rows, tamper_prompt, tamper_leaf_signature, tamper_token_to_first, tamper_token_to_client, tamper_voucher],
)
@pytest.mark.parametrize("seed", range(5))
def test_tampering_is_refused_and_never_settled(tamper, seed) -> None:
    _, outcome = run(45, 40, 3, seed, tamper=tamper)
    assert outcome.settlement is None
    assert outcome.gave_up or outcome.client_failed
    codes = {one.code for one in outcome.gave_up.values()} | (
        {outcome.client_failed.code} if outcome.client_failed else set()
    )
    assert codes <= {FailureCode.BAD_INPUT, FailureCode.CANCELLED}


def test_last_stage_stops_when_vouchers_stay_behind() -> None:
    def drop_vouchers(sender: int, receiver: int, frame: Frame) -> Frame | None:
        return None if isinstance(frame, VoucherFrame) else frame

    _, outcome = run(10, 400, 3, seed=3, tamper=drop_vouchers)
    assert outcome.settlement is None
    assert len(outcome.tokens) == 3 * WINDOW_POSITIONS - 10 + 1, "prompt and answer are three windows"
