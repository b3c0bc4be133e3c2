"""A shard in ONNX Runtime: the only importer of onnxruntime. Knows no requests, budgets or locks.

Reproducibility: with one build and ISA, rows come out bit for bit the same however a sequence is cut into calls. The
runtime has one exception, a call of a single row (another matrix kernel), and this file never makes it: a single
position runs as two rows, the token twice; the second row is dropped and the KV length set back.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inference.engine.rows import Hidden, Rows, StageOutput, validate_rows
from inference.errors import EngineError
from inference.model.graph import ShardRange, build_graph
from proto_specs.types.manifest import Architecture, WireDtype

_SPARE_POSITIONS = 1
"""A single position runs as two, so memory and rotary tables hold one position more than the capacity."""

CALL_ROWS_MAX = 256
"""The most rows of one runtime call. Longer inputs are cut, which bounds the memory of activations."""

_ERROR_SEVERITY = 3


@dataclass
class KvCache:
    """KV memory of one sequence on one shard: `length` positions are valid of at most `capacity`.

    Rows beyond `length` are garbage that no later call reads, so a rollback just sets `length`.
    """

    capacity: int
    length: int
    binding: onnxruntime.IOBinding

    def truncate(self, length: int) -> None:
        """Forget positions from `length` on. Raises EngineError when `length` exceeds the valid positions."""
        if not 0 <= length <= self.length:
            raise EngineError(f"cannot cut a sequence of {self.length} positions to {length}")
        self.length = length


class ShardSession:
    """Layers [start, end) loaded for computation. Not thread-safe: one call at a time."""

    def __init__(
        self, shard: ShardRange, directory: Path, threads: int = 1, wire_dtype: WireDtype = WireDtype.FP32
    ) -> None:
        """Load the shard from the unit files in `directory`. Raises EngineError when the runtime cannot.

        The session has `threads` of its own; they never spin, so several sessions share a machine without colliding.
        `wire_dtype` is what the model's boundaries carry. Rows here are always fp32: code that compares them with rows
        from a wire must round them as the wire does.
        """
        self.shard = shard
        self.wire_dtype = wire_dtype
        self.threads = threads
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERROR_SEVERITY
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(directory))
        try:
            self._session = onnxruntime.InferenceSession(
                build_graph(shard), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises a dozen unrelated classes, all derived from Exception alone
            raise EngineError(f"cannot load layers [{shard.start}, {shard.end}) from {directory}: {error}") from error
        names = (one.name for one in self._session.get_outputs())
        self._row_outputs = tuple(one for one in names if not one.startswith("present_"))
        tables = compute_rotary_tables(shard.architecture)
        self._cos, self._sin = (onnxruntime.OrtValue.ortvalue_from_numpy(one) for one in tables)

    def open_kv(self, capacity: int) -> KvCache:
        """Allocate KV memory for one sequence of up to `capacity` positions. Raises EngineError beyond the context."""
        architecture = self.shard.architecture
        if not 1 <= capacity <= architecture.context_max:
            raise EngineError(f"a sequence has 1 to {architecture.context_max} positions, not {capacity}")
        binding = self._session.io_binding()
        shape = (1, architecture.kv_heads, capacity + _SPARE_POSITIONS, architecture.head_dim)
        for layer in self.shard.layers:
            for part in ("key", "value"):
                memory = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, dtype=np.float32))
                binding.bind_ortvalue_input(f"past_{part}.{layer}", memory)
                binding.bind_ortvalue_output(f"present_{part}.{layer}", memory)
        binding.bind_ortvalue_input("cos", self._cos)
        binding.bind_ortvalue_input("sin", self._sin)
        return KvCache(capacity, 0, binding)

    def run(self, kv: KvCache, rows: Rows, logit_rows: tuple[int, ...] = ()) -> StageOutput:
        """Extend the sequence by `rows` ([n] uint32 tokens or [n,C] fp32) and return their outputs.

        `logit_rows` are indices into this call's rows; only a last shard answers them. Raises EngineError for rows of
        another kind or width, NaN, indices out of range, or more positions than the memory holds.
        """
        validate_rows(self.shard, rows)
        count = len(rows)
        if kv.length + count > kv.capacity:
            raise EngineError(f"{kv.length} + {count} positions exceed the {kv.capacity} reserved")
        if logit_rows and not self.shard.is_last:
            raise EngineError("only the last shard computes logits")
        if any(not 0 <= one < count for one in logit_rows):
            raise EngineError(f"logits asked for rows {logit_rows} of {count}")
        before = kv.length
        try:
            pieces = [
                self._run_piece(kv, rows[start : start + CALL_ROWS_MAX], start, logit_rows)
                for start in range(0, count, CALL_ROWS_MAX)
            ]
        except EngineError:
            kv.length = before
            raise
        return pieces[0] if len(pieces) == 1 else _join(pieces, logit_rows)

    def _run_piece(self, kv: KvCache, rows: Rows, start: int, logit_rows: tuple[int, ...]) -> StageOutput:
        """Makes one call of the runtime for the rows from `start` on of a larger `run`, with the requested logits."""
        count = len(rows)
        asked = tuple(one - start for one in logit_rows if start <= one < start + count)
        outputs = self._call(kv, np.concatenate([rows, rows]) if count == 1 else rows, asked)
        kv.length += count
        embedded = outputs["embedded"][0, :count] if self.shard.is_first else None
        logits = outputs["logits"] if asked else None
        return StageOutput(outputs["hidden_out"][0, :count], embedded, logits)

    def _call(self, kv: KvCache, rows: Rows, logit_rows: tuple[int, ...]) -> dict[str, Hidden]:
        binding = kv.binding
        total = kv.length + len(rows)
        feeds: dict[str, NDArray[np.int32] | NDArray[np.int64] | Hidden] = {
            "last_position": np.array([total - 1], dtype=np.int32),
            "total": np.array(total, dtype=np.int32),
        }
        if self.shard.is_first:
            feeds["tokens"] = rows.astype(np.int64)[None]
        else:
            feeds["hidden"] = np.ascontiguousarray(rows, dtype=np.float32)[None]
        if self.shard.is_last:
            feeds["logit_rows"] = np.array(logit_rows, dtype=np.int64)
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name in self._row_outputs:
            binding.bind_output(name)
        try:
            self._session.run_with_iobinding(binding)
        except Exception as error:  # as above
            raise EngineError(f"layers [{self.shard.start}, {self.shard.end}) failed: {error}") from error
        # Outputs come in the order they were first bound: the KV memory at `open_kv`, then these.
        values = binding.get_outputs()[2 * len(self.shard.layers) :]
        return {name: value.numpy() for name, value in zip(self._row_outputs, values, strict=True)}


def _join(pieces: list[StageOutput], logit_rows: tuple[int, ...]) -> StageOutput:
    embedded = [one.embedded for one in pieces if one.embedded is not None]
    logits = [one.logits for one in pieces if one.logits is not None]
    # Pieces return their rows in order of piece; restore the order of the request.
    order = np.argsort(np.argsort([one // CALL_ROWS_MAX for one in logit_rows], kind="stable"), kind="stable")
    return StageOutput(
        np.concatenate([one.hidden for one in pieces]),
        np.concatenate(embedded) if embedded else None,
        np.concatenate(logits)[order] if logits else None,
    )


def compute_rotary_tables(architecture: Architecture) -> tuple[Hidden, Hidden]:
    """cos and sin of position x frequency, [context_max + 1, head_dim / 2]; in fp64, rounded once to fp32."""
    half = architecture.head_dim // 2
    frequency = float(architecture.rope_theta) ** (-np.arange(half, dtype=np.float64) / half)
    angle = np.arange(architecture.context_max + _SPARE_POSITIONS, dtype=np.float64)[:, None] * frequency
    return np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
