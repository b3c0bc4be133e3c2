"""A model cut into shards in one process, with what a wire does to the rows between: what workers must agree with."""

from __future__ import annotations

from collections.abc import Sequence

from inference.engine.engine import load_session
from inference.engine.ort import KvCache
from inference.engine.rows import Rows, StageOutput
from inference.engine.wire_dtype import decode_rows, encode_rows
from inference.model.store import ShardStore


class CutKv:
    """KV memory of every shard."""

    def __init__(self, parts: list[KvCache]) -> None:
        self.parts = parts

    @property
    def length(self) -> int:
        return self.parts[-1].length


class CutModel:
    """Shards in order, used as one session."""

    def __init__(self, store: ShardStore, model_id: bytes, ranges: Sequence[tuple[int, int]]) -> None:
        self._sessions = [load_session(store, model_id, start, end, threads=1, verify=False) for start, end in ranges]

    def open_kv(self, capacity: int) -> CutKv:
        return CutKv([session.open_kv(capacity) for session in self._sessions])

    def run(self, kv: CutKv, rows: Rows, logit_rows: tuple[int, ...]) -> StageOutput:
        """The last shard's output for rows that enter the first."""
        for session, part in zip(self._sessions[:-1], kv.parts, strict=False):
            sent = encode_rows(session.run(part, rows).hidden, session.wire_dtype)
            rows = decode_rows(sent, session.wire_dtype, session.shard.architecture.hidden)
        return self._sessions[-1].run(kv.parts[-1], rows, logit_rows)
