"""KV memory of a device is taken whole at admission, in slots that the budget bounds, and kept by who is evicted."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from inference.engine.engine import ForwardCall, StageEngine, load_session
from inference.engine.kv_memory import KvMemory
from inference.engine.kv_slots import CAPACITY_MIN
from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, StageOutput
from inference.errors import EngineError, KvExhaustedError
from tests.unit.inference.conftest import TinyModel

TOKENS = np.random.default_rng(2).integers(0, 200, 64).astype(np.uint32)
A, B, C = b"a" * 32, b"b" * 32, b"c" * 32


class Device:
    """A session that says it is on a device, whose memory holds `room` memories."""

    def __init__(self, session: ShardSession, room: int) -> None:
        self.room = room
        self.made: list[tuple[int, int]] = []
        self._make = session.make_memory
        session.is_on_device = True
        session.make_memory = self.make  # type: ignore[method-assign]

    def make(self, slots: int, capacity: int) -> KvMemory:
        if len(self.made) == self.room:
            raise EngineError("no room")
        self.made.append((slots, capacity))
        return self._make(slots, capacity)


def start(model: TinyModel, kv_positions: int, room: int) -> tuple[StageEngine, Device]:
    session = load_session(model.store, model.model_id, 0, 3)
    device = Device(session, room)
    return StageEngine(session, kv_positions), device


def forward(engine: StageEngine, request: bytes, first: int, count: int) -> Hidden:
    (answer,) = engine.forward_batch([ForwardCall(request, first, TOKENS[first : first + count])])
    assert isinstance(answer, StageOutput)
    return answer.hidden


def test_memory_is_taken_at_admission_within_the_budget(model: TinyModel) -> None:
    engine, device = start(model, 3 * CAPACITY_MIN, room=2)
    engine.open(A, 20)
    assert device.made == [(3, CAPACITY_MIN)]
    for request in (B, C, bytes(32)):
        engine.open(request, 20)
    assert len(device.made) == 2


def test_a_full_device_refuses_at_admission_and_takes_the_next_after_an_end(model: TinyModel) -> None:
    engine, _ = start(model, 64, room=1)
    engine.open(A, 20)
    with pytest.raises(KvExhaustedError):
        engine.open(B, 20)
    engine.close(B)
    forward(engine, A, 0, 4)
    engine.close(A)
    with pytest.raises(KvExhaustedError):  # the fake never gives room back
        engine.open(B, 20)


def test_who_is_evicted_keeps_its_memory(model: TinyModel) -> None:
    engine, device = start(model, 64, room=2)
    engine.open(A, 64)
    engine.open(B, 64)
    forward(engine, A, 0, 30)
    alone = forward(engine, B, 0, 30)
    assert engine.make_room(A, 60, ()) == [B]
    forward(engine, A, 30, 30)
    made = len(device.made)
    engine.close(A)
    assert_array_equal(forward(engine, B, 0, 30), alone)
    assert len(device.made) == made
