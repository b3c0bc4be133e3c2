"""Requests come, fill their memory, are rolled back and go while others decode beside them: no row is disturbed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from numpy.testing import assert_allclose

from inference.engine.engine import ForwardCall, StageEngine, load_session
from inference.engine.ort import ShardSession
from inference.engine.rows import StageOutput
from tests.unit.inference.conftest import TinyModel, model

__all__ = ["model"]
VOCAB = 200


@dataclass
class _Sequence:
    positions_max: int
    tokens: list[int] = field(default_factory=list)


def check(session: ShardSession, sequence: _Sequence, output: StageOutput) -> None:
    """Against the whole sequence computed alone in memory of its own."""
    alone = session.run(session.open_kv(len(sequence.tokens)), np.array(sequence.tokens, np.uint32)).hidden
    count = len(output.hidden)
    assert_allclose(output.hidden, alone[-count:], rtol=1e-3, atol=1e-3 * float(np.abs(alone).max()))


@pytest.mark.parametrize("seed", range(3))
def test_no_idle_sequence_is_disturbed(model: TinyModel, seed: int) -> None:
    session = load_session(model.store, model.model_id, 0, 3)
    engine = StageEngine(session, kv_positions=4_000)
    context_max = session.shard.architecture.context_max
    drawn = np.random.default_rng(seed)
    held: dict[bytes, _Sequence] = {}
    for number in range(120):
        if len(held) < 10 and drawn.random() < 0.4:
            name = number.to_bytes(32, "big")
            held[name] = _Sequence(int(drawn.choice([40, context_max])))
            engine.open(name, held[name].positions_max)
        if held and drawn.random() < 0.15:
            name = list(held)[int(drawn.integers(len(held)))]
            engine.close(name)
            del held[name]
        if held and drawn.random() < 0.2:
            name, one = list(held.items())[int(drawn.integers(len(held)))]
            if one.tokens:
                del one.tokens[int(drawn.integers(len(one.tokens))) :]
                engine.truncate(name, len(one.tokens))
        calls = []
        for name, one in held.items():
            room = one.positions_max - len(one.tokens)
            is_filled = drawn.random() < 0.2
            count = min(room, (room if is_filled else int(drawn.integers(2, 9))) if not one.tokens else 1)
            if count and drawn.random() < 0.7:
                rows = drawn.integers(0, VOCAB, count).astype(np.uint32)
                calls.append(ForwardCall(name, len(one.tokens), rows))
                one.tokens += rows.tolist()
        for call, answer in zip(calls, engine.forward_batch(calls), strict=True):
            assert isinstance(answer, StageOutput), answer
            check(session, held[call.request_id], answer)
