"""An honest opening authenticates for every stage and window; every changed byte or slot is refused."""

from __future__ import annotations

import dataclasses

import pytest

from inference.serving.opening import OpeningError, authenticate_opening
from inference.serving.record import make_opening
from proto_specs.codec import decode, encode
from proto_specs.types.request import Opening
from tests.property.inference.serving.harness import SESSION_KEY, Path, make_manifest, make_order

PROMPT = tuple(range(100, 145))
STAGES = 3


@pytest.fixture(scope="module")
def outcome():
    found = Path(make_order(PROMPT, 40, STAGES), PROMPT, None, seed=9).run()
    assert found.settlement is not None
    return found


def authenticate(outcome, opening: Opening, stage: int, window: int):
    roots = outcome.settlement.stage_roots[stage].roots
    return authenticate_opening(opening, roots, window, SESSION_KEY.public_key, make_manifest())


@pytest.mark.parametrize("stage", range(STAGES))
@pytest.mark.parametrize("window", range(3))
def test_honest_opening_authenticates(outcome, stage, window) -> None:
    record = outcome.records[stage]
    opening = decode(Opening, encode(make_opening(record, window)))
    found = authenticate(outcome, opening, stage, window)
    assert found.window_start == 32 * window
    assert found.positions == min(32 * (window + 1), 84)
    assert found.inputs == b"".join(record.input_payloads[: window + 1])
    if stage == STAGES - 1:
        assert found.output == record.traces[window]
        assert found.sampled_from == max(32 * window, 44)
        assert list(found.tokens) == outcome.tokens[found.sampled_from - 44 : max(0, found.positions - 44)]
    else:
        assert found.output == record.output_payloads[window]


def flipped(payload: bytes) -> bytes:
    return payload[:-1] + bytes([payload[-1] ^ 1])


CHANGES = {
    "input bytes": lambda one: dataclasses.replace(
        one, input_payloads=(*one.input_payloads[:-1], flipped(one.input_payloads[-1]))
    ),
    "output bytes": lambda one: dataclasses.replace(one, output_payload=flipped(one.output_payload)),
    "trace bytes": lambda one: dataclasses.replace(one, trace_payload=flipped(one.trace_payload)),
    "a root's hash": lambda one: dataclasses.replace(one, input_hashes=one.input_hashes[:-1]),
    "output signature": lambda one: dataclasses.replace(
        one, output_leaf=dataclasses.replace(one.output_leaf, output_signature=bytes(64))
    ),
    "input countersignature": lambda one: dataclasses.replace(
        one, output_leaf=dataclasses.replace(one.output_leaf, input_signature=bytes(64))
    ),
    "missing window": lambda one: dataclasses.replace(one, input_leaves=one.input_leaves[:-1]),
    "other order": lambda one: dataclasses.replace(
        one, order=dataclasses.replace(one.order, order=dataclasses.replace(one.order.order, sequence=1))
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_opening_is_refused(outcome, change) -> None:
    opening = make_opening(outcome.records[2], 1)
    with pytest.raises(OpeningError):
        authenticate(outcome, CHANGES[change](opening), 2, 1)


def test_opening_of_another_window_is_refused(outcome) -> None:
    with pytest.raises(OpeningError):
        authenticate(outcome, make_opening(outcome.records[1], 0), 1, 1)


def test_window_that_does_not_exist_is_an_index_error(outcome) -> None:
    with pytest.raises(IndexError):
        make_opening(outcome.records[0], 3)
