"""Runs one layer over sequences as a claimant does. Knows no distances."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from inference.calibration.claimants import STALE_POSITIONS, TRUNCATED_PREFIX, Claimant, Memory
from inference.engine.kv_memory import KvCache
from inference.engine.ort import ShardSession
from inference.engine.rows import Hidden, Rows
from proto_specs.limits import WINDOW_POSITIONS

INT8_LEVELS = 127


def run_layer(session: ShardSession, claimant: Claimant, entered: Sequence[Rows]) -> list[Hidden]:
    """The rows [P,C] after the session's layers of each sequence, given what enters it. Raises EngineError."""
    if claimant.together:
        return _run_together(session, entered)
    match claimant.memory:
        case Memory.KEPT:
            return [_run_in_calls(session, one, claimant.rows) for one in entered]
        case Memory.INT8:
            return [_run_rounded(session, one) for one in entered]
        case Memory.STALE:
            return [_run_stale(session, one) for one in entered]
        case Memory.TRUNCATED:
            return [_run_truncated(session, one) for one in entered]


def get_embedded(session: ShardSession, rows: Rows) -> Hidden:
    """What enters the layers: the embedded tokens on a first shard, else the rows themselves."""
    output = session.run(session.open_kv(len(rows)), rows)
    return rows.astype(np.float32, copy=False) if output.embedded is None else output.embedded


def _run_in_calls(session: ShardSession, rows: Rows, count: int) -> Hidden:
    step = count or len(rows)
    kv = session.open_kv(len(rows))
    return np.concatenate([session.run(kv, rows[one : one + step]).hidden for one in range(0, len(rows), step)])


def _run_together(session: ShardSession, entered: Sequence[Rows]) -> list[Hidden]:
    memory = session.make_memory(len(entered), max(map(len, entered)))
    caches = [KvCache(memory, slot) for slot in range(len(entered))]
    found: list[list[Hidden]] = [[] for _ in entered]
    for position in range(memory.capacity):
        going = [one for one, rows in enumerate(entered) if position < len(rows)]
        rows = [entered[one][position : position + 1] for one in going]
        outputs = session.run_together([caches[one] for one in going], rows, [False] * len(going))
        for one, output in zip(going, outputs, strict=True):
            found[one].append(output.hidden)
    return [np.concatenate(one) for one in found]


def _run_rounded(session: ShardSession, rows: Rows) -> Hidden:
    """Keys and values of every window are rounded to 8 bits, per position and head, once it was computed."""
    kv, found = session.open_kv(len(rows)), []
    for start in range(0, len(rows), WINDOW_POSITIONS):
        found.append(session.run(kv, rows[start : start + WINDOW_POSITIONS]).hidden)
        for array in kv.memory.layers.values():
            part = array[kv.slot, :, start : kv.length]
            step = np.abs(part).max(axis=-1, keepdims=True) / INT8_LEVELS
            part[...] = np.rint(np.divide(part, step, out=np.zeros_like(part), where=step > 0)) * step
    return np.concatenate(found)


def _run_stale(session: ShardSession, rows: Rows) -> Hidden:
    """Right rows for the first positions, whose keys and values are then those of the same rows in another order."""
    first = rows[:STALE_POSITIONS]
    right = session.run(session.open_kv(len(first)), first).hidden
    if len(rows) <= STALE_POSITIONS:
        return right
    kv = session.open_kv(len(rows))
    stale: Rows = first[::-1].copy()
    session.run(kv, stale)
    return np.concatenate([right, session.run(kv, rows[STALE_POSITIONS:]).hidden])


def _run_truncated(session: ShardSession, rows: Rows) -> Hidden:
    """Every window sees so many positions before it and no more."""
    found = []
    for start in range(0, len(rows), WINDOW_POSITIONS):
        seen = rows[max(0, start - TRUNCATED_PREFIX) : start + WINDOW_POSITIONS]
        kept = min(WINDOW_POSITIONS, len(rows) - start)
        found.append(session.run(session.open_kv(len(seen)), seen).hidden[-kept:])
    return np.concatenate(found)
