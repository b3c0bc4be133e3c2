"""A shard in ONNX Runtime: the only importer of onnxruntime. Knows no requests, budgets or locks.

Reproducibility: with one build and ISA a position's row comes out within the exact class's noise (1e-6 of its delta)
however a sequence is cut into calls, and bit for bit where no call has a single row. A profile that asks for equal bits
(`decode_rows` 2) runs a single position as two rows, the token twice; the second row is dropped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference.engine import cuda
from inference.engine.device import CPU, Device
from inference.engine.embedding import EmbeddingTable
from inference.engine.kv_memory import KvCache, KvMemory
from inference.engine.rows import Hidden, Rows, StageOutput, validate_rows
from inference.engine.way import Way
from inference.errors import EngineError
from inference.model.families.rope import Rotary, compute_tables
from inference.model.graph.build import build_graph, list_pieces
from inference.model.graph.kit import GIVEN_SHAPE
from inference.model.graph.provider import Provider
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import WireDtype

# The runtime's Linux wheels write a device id and look up a host to report to, from their import on. Nobody asked.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

CALL_ROWS_MAX = 256
"""The most rows of one runtime call. Longer inputs are cut, which bounds the memory of activations."""

_ERROR_SEVERITY = 3
_TABLE_POSITIONS_MIN = 512
_STEP_ROWS_MAX = 32
"""Calls of so few rows use the same arrays each time, bound once: binding is a tenth of a small model's decode."""
KEPT_LOGITS_MAX = 1 << 18
"""Unless their logits are more than so many: there is a binding for every range of slots, and it keeps its arrays."""
BINDINGS_MAX = 256
"""Bindings that a memory keeps, those used last."""


class ShardSession:
    """Layers [start, end) loaded for computation. Not thread-safe: one call at a time."""

    def __init__(
        self, shard: ShardRange, directory: Path, threads: int = 1, device: Device = CPU, way: Way = Way.USUAL
    ) -> None:
        """Load the shard from the unit files in `directory`. Raises EngineError when the runtime cannot.

        Raises DeviceError when `device` cannot be used: all is computed there or nothing.
        The session has `threads` of its own; they never spin, so several sessions share a machine without colliding.
        Rows here are always fp32: code that compares them with rows from a wire must know the wire's dtype.
        """
        self.shard = shard
        self.wire_dtype = WireDtype(shard.manifest.wire_dtype)
        self.threads = threads
        self.device = device
        self.is_on_device = device.provider is Provider.CUDA
        """KV memory is a device's: it is taken whole when it is made."""
        if self.is_on_device:
            cuda.require_exact(device, shard.manifest)
        self._decode_rows = shard.manifest.profile.decode_rows
        require_device(device)
        tables = _RotaryTables(shard.family.make_rotaries(shard.decoder), device)
        where = f"layers [{shard.start}, {shard.end}) from {directory} on {device}"
        try:
            self._embedding = EmbeddingTable(shard, directory) if shard.is_first else None
            self._pieces = [_Piece(one, directory, threads, device, tables, way) for one in list_pieces(shard)]
        except (OSError, ValueError) as error:
            raise EngineError(f"cannot load {where}: {error}") from error
        except Exception as error:  # the runtime raises a dozen unrelated classes, all derived from Exception alone
            if not type(error).__module__.startswith("onnxruntime"):
                raise
            raise EngineError(f"cannot load {where}: {error}") from error

    def make_memory(self, slots: int, capacity: int) -> KvMemory:
        """KV memory for `slots` sequences of up to `capacity` positions. Raises EngineError beyond the context."""
        return KvMemory(self.shard, slots, capacity, self._allocate if self.is_on_device else None)

    def open_kv(self, capacity: int) -> KvCache:
        """KV memory for one sequence of up to `capacity` positions. Raises EngineError beyond the context."""
        return KvCache(self.make_memory(1, capacity), 0)

    def run(self, kv: KvCache, rows: Rows, logit_rows: tuple[int, ...] = (), of_any_size: bool = False) -> StageOutput:
        """Extend the sequence by `rows` ([n] uint32 tokens or [n,C] fp32) and return their outputs.

        `logit_rows` are indices into this call's rows; only a last shard answers them. Raises EngineError for rows of
        another kind or width, NaN, indices out of range, or more positions than the memory holds; RowsOutOfRange for
        values beyond what the model was calibrated for, unless they may be `of_any_size`.
        """
        self._check(kv, rows, logit_rows, of_any_size)
        before = kv.length
        try:
            pieces = [
                self._run_piece(kv, rows[start : start + CALL_ROWS_MAX], start, logit_rows)
                for start in range(0, len(rows), CALL_ROWS_MAX)
            ]
        except EngineError:
            kv.length = before
            raise
        return pieces[0] if len(pieces) == 1 else _join(pieces, logit_rows)

    def run_together(
        self, sequences: Sequence[KvCache], rows: Sequence[Rows], with_logits: Sequence[bool]
    ) -> list[StageOutput]:
        """Extend several sequences of one memory, each by one row, in one call: a decode step of a batch.

        They may lie in any slots; slots between them run along idle. `with_logits` says whose row's logits are asked.
        Raises EngineError as `run`, for all of them.
        """
        for kv, row, is_asked in zip(sequences, rows, with_logits, strict=True):
            self._check(kv, row, (0,) if is_asked else ())
        if self._decode_rows > 1:  # attention over several rows takes one sequence a call
            return self._run_each(sequences, rows, with_logits)
        memory = sequences[0].memory
        slots = [one.slot for one in sequences]
        first, count = min(slots), max(slots) - min(slots) + 1
        places = [slot - first for slot in slots]
        hidden = np.concatenate([self._enter(row) for row in rows])
        if self.is_on_device:  # its graph wants a row of every slot
            given, hidden = hidden, np.zeros((count, self.shard.decoder.hidden), np.float32)
            hidden[places] = given
        at = places if self.is_on_device else list(range(len(places)))
        last = np.array(memory.lengths[first : first + count], dtype=np.int32)  # idle slots write behind their length
        asked = [one for one, is_asked in zip(at, with_logits, strict=True) if is_asked]
        hidden_out, logits = self._call(memory, first, hidden, last, asked, places)
        outputs = []
        for kv, one in zip(sequences, at, strict=True):
            kv.length += 1
            embedded = hidden[one : one + 1] if self.shard.is_first else None
            mine = logits[asked.index(one)][None] if logits is not None and one in asked else None
            outputs.append(StageOutput(hidden_out[one : one + 1], embedded, mine))
        return outputs

    def _run_each(
        self, sequences: Sequence[KvCache], rows: Sequence[Rows], with_logits: Sequence[bool]
    ) -> list[StageOutput]:
        """`run_together`, a call for each sequence."""
        before = [kv.length for kv in sequences]
        try:
            return [
                self._run_piece(kv, row, 0, (0,) if is_asked else ())
                for kv, row, is_asked in zip(sequences, rows, with_logits, strict=True)
            ]
        except EngineError:
            for kv, length in zip(sequences, before, strict=True):
                kv.length = length
            raise

    def _check(self, kv: KvCache, rows: Rows, logit_rows: tuple[int, ...], of_any_size: bool = False) -> None:
        validate_rows(self.shard, rows, of_any_size)
        count = len(rows)
        if kv.length + count > kv.capacity:
            raise EngineError(f"{kv.length} + {count} positions exceed the {kv.capacity} reserved")
        if logit_rows and not self.shard.is_last:
            raise EngineError("only the last shard computes logits")
        if any(not 0 <= one < count for one in logit_rows):
            raise EngineError(f"logits asked for rows {logit_rows} of {count}")

    def _enter(self, rows: Rows) -> Hidden:
        """Rows of the residual stream before the first layer."""
        if self._embedding is not None:
            return self._embedding.look_up(rows.astype(np.uint32, copy=False))
        return np.ascontiguousarray(rows, dtype=np.float32)

    def _run_piece(self, kv: KvCache, rows: Rows, start: int, logit_rows: tuple[int, ...]) -> StageOutput:
        """Makes one call of the runtime for the rows from `start` on of a larger `run`, with the requested logits."""
        count = len(rows)
        asked = [one - start for one in logit_rows if start <= one < start + count]
        hidden = self._enter(rows)
        entered = np.concatenate([hidden, hidden]) if count < self._decode_rows else hidden
        last = np.array([kv.length + len(entered) - 1], dtype=np.int32)
        hidden_out, logits = self._call(kv.memory, kv.slot, entered, last, asked)
        kv.length += count
        return StageOutput(hidden_out[:count], hidden if self.shard.is_first else None, logits if asked else None)

    def _call(
        self,
        memory: KvMemory,
        slot: int,
        hidden: Hidden,
        last: NDArray[np.int32],
        asked: Sequence[int],
        places: Sequence[int] | None = None,
    ) -> tuple[Hidden, Hidden | None]:
        """One call over `len(last)` slots from `slot` on: the rows after the last layer, and logits of `asked` rows.

        `places` says which of the slots each row is of; without it every slot has as many rows, in order.
        """
        logits: Hidden | None = None
        place_of_row = np.array(range(len(hidden)) if places is None else places, dtype=np.int64)
        for piece in self._pieces:
            hidden, logits = piece.call(memory, slot, hidden, last, asked, place_of_row)
        return hidden, logits

    def _allocate(self, shape: tuple[int, ...]) -> Any:
        """Memory on the device. Raises EngineError when it has too little."""
        place = (self.device.provider.value, self.device.number)
        try:
            return onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, np.float32, *place)
        except Exception as error:  # as in __init__
            raise EngineError(
                f"{self.device} has no room for KV memory of {shape}: serve fewer layers or --kv-positions"
            ) from error


class _RotaryTables:
    """Tables of all rotary embeddings on a device, as long as the longest memory yet."""

    def __init__(self, rotaries: Mapping[str, Rotary], device: Device) -> None:
        self._rotaries = rotaries
        self._device = device
        self._tables: Mapping[str, Any] = {}
        self._positions = 0

    def get(self, positions: int) -> Mapping[str, Any]:
        """Tables of at least so many positions, as the graph names them, and the numbers of the positions."""
        if positions > self._positions:
            self._positions = max(_TABLE_POSITIONS_MIN, 1 << (positions - 1).bit_length())
            tables: dict[str, NDArray[Any]] = {**compute_tables(self._rotaries, self._positions)}
            tables["places"] = np.arange(self._positions, dtype=np.int64)
            place = (self._device.provider.value, self._device.number)
            make = onnxruntime.OrtValue.ortvalue_from_numpy
            self._tables = {name: make(table, *place) for name, table in tables.items()}
        return self._tables


class _Step:
    """A binding of the runtime, and for calls of few rows the arrays that are bound to it."""

    def __init__(self, binding: Any) -> None:
        self.binding = binding
        self.inputs: dict[str, NDArray[Any]] = {}
        self.outputs: dict[str, NDArray[Any]] = {}

    def bind(self, inputs: dict[str, NDArray[Any]], outputs: dict[str, NDArray[Any]]) -> None:
        """Bind arrays for the next run."""
        self.inputs, self.outputs = inputs, outputs
        for name, value in inputs.items():
            self.binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(value))
        for name, array in outputs.items():
            self.binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))


class _Piece:
    """Layers of a shard that are one graph."""

    def __init__(
        self, shard: ShardRange, directory: Path, threads: int, device: Device, tables: _RotaryTables, way: Way
    ) -> None:
        self._shard = shard
        self._device = device
        self._is_on_device = device.provider is Provider.CUDA
        self._tables = tables
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = _ERROR_SEVERITY
        if way is Way.UNOPTIMISED:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        for key, value in {
            "session.intra_op.allow_spinning": "0",
            "session.model_external_initializers_file_folder_path": str(directory),
            "session.use_device_allocator_for_initializers": "1",  # weights that are repacked leave no hole behind
            **(cuda.SESSION_SETTINGS if self._is_on_device else {}),
        }.items():
            options.add_session_config_entry(key, value)
        providers: list[Any] = ["CPUExecutionProvider"]
        if self._is_on_device:
            providers = [(cuda.PROVIDER, cuda.make_provider_options(device))]
        graph = build_graph(shard, Provider.CUDA if way is Way.PLAIN else device.provider)
        self._session = onnxruntime.InferenceSession(graph, options, providers=providers)
        if self._is_on_device:
            self._check_placement()
        self._inputs = frozenset(one.name for one in self._session.get_inputs())

    def call(
        self,
        memory: KvMemory,
        slot: int,
        hidden: Hidden,
        last: NDArray[np.int32],
        asked: Sequence[int],
        place_of_row: NDArray[np.int64],
    ) -> tuple[Hidden, Hidden | None]:
        """The layers over `len(last)` slots from `slot` on, as `ShardSession._call`."""
        inputs: dict[str, NDArray[Any]] = {"hidden": hidden, "last_position": last}
        if "place_of_row" in self._inputs:
            inputs["place_of_row"] = place_of_row
            inputs["row_of_place"] = np.zeros(max(len(last), len(hidden)), dtype=np.int64)
            inputs["row_of_place"][place_of_row] = np.arange(len(hidden))
        inputs["total"] = np.array(last.max() + 1, dtype=np.int32)
        if "positions" in self._inputs:
            rows = len(hidden) // len(last)
            inputs["positions"] = last[:, None] + np.arange(1 - rows, 1, dtype=np.int64)
            inputs["total"] = np.array([last.max() + 1], dtype=np.int64)
        if self._shard.is_last:
            inputs["logit_rows"] = np.array(asked, dtype=np.int64)
        is_small = not self._shard.is_last or len(asked) * self._shard.decoder.vocab <= KEPT_LOGITS_MAX
        is_step = is_small and len(hidden) <= _STEP_ROWS_MAX and not self._is_on_device
        key = (id(self), slot, len(last), len(hidden) if is_step else 0, len(asked) if is_step else 0)
        step = memory.bindings.pop(key, None)
        try:
            step = step or _Step(self._bind(memory, slot, len(last)))
            if is_step and step.inputs:
                for name, value in inputs.items():
                    step.inputs[name][...] = value
            else:
                outputs = {"hidden_out": np.empty_like(hidden)}
                if self._shard.is_last:
                    outputs["logits"] = np.empty((len(asked), self._shard.decoder.vocab), np.float32)
                step.bind({name: np.array(value) for name, value in inputs.items()} if is_step else inputs, outputs)
            self._session.run_with_iobinding(step.binding)
        except Exception as error:  # as in ShardSession; and memory, of a device or of this process, may be short
            reason = str(error) or type(error).__name__
            raise EngineError(f"layers [{self._shard.start}, {self._shard.end}) failed: {reason}") from error
        if is_small:
            memory.bindings[key] = step
        if len(memory.bindings) > BINDINGS_MAX:
            del memory.bindings[next(iter(memory.bindings))]
        found = {name: array.copy() for name, array in step.outputs.items()} if is_step else step.outputs
        return found["hidden_out"], found.get("logits")

    def _bind(self, memory: KvMemory, slot: int, count: int) -> Any:
        """A binding of a range of slots: its KV memory as past and present, and the tables."""
        binding = self._session.io_binding()
        for name in (f"{part}.{layer}" for layer in self._shard.layers for part in ("key", "value")):
            whole = memory.layers[name]
            if not isinstance(whole, np.ndarray):
                self._bind_on_device(binding, name, whole, slot, count)
                continue
            value = onnxruntime.OrtValue.ortvalue_from_numpy(whole[slot : slot + count])
            binding.bind_ortvalue_input(f"past_{name}", value)
            binding.bind_ortvalue_output(f"present_{name}", value)
        for name, shape in self._list_shapes(count).items():
            binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(shape))
        for name, table in self._tables.get(memory.positions).items():
            if name in self._inputs:
                binding.bind_ortvalue_input(name, table)
        return binding

    def _bind_on_device(self, binding: Any, name: str, whole: Any, slot: int, count: int) -> None:
        slots, *rest = whole.shape()
        start = whole.data_ptr() + slot * (whole.tensor_size_in_bytes() // slots)
        place = (self._device.provider.value, self._device.number, np.float32, [count, *rest], start)
        binding.bind_input(f"past_{name}", *place)
        binding.bind_output(f"present_{name}", *place)

    def _list_shapes(self, count: int) -> dict[str, NDArray[np.int64]]:
        """The shapes that the graph wants for `count` sequences."""
        if "batch" in self._inputs:
            return {"batch": np.array([count], dtype=np.int64)}
        given = [name for name in self._inputs if name.startswith(GIVEN_SHAPE)]
        texts = {name: name.removeprefix(GIVEN_SHAPE).split(".") for name in given}
        return {
            name: np.array([count if one == "B" else int(one) for one in text], np.int64)
            for name, text in texts.items()
        }

    def _check_placement(self) -> None:
        nodes: dict[str, set[str]] = {}
        for part in self._session.get_provider_graph_assignment_info():
            nodes.setdefault(part.ep_name, set()).update(one.op_type for one in part.get_nodes())
        options = self._session.get_provider_options().get(cuda.PROVIDER, {})
        cuda.check_placement(self._device, self._session.get_providers(), options, nodes)


def require_device(device: Device) -> None:
    """Raises DeviceError, with the reason, where this machine cannot compute on the device."""
    if device.provider is Provider.CUDA:
        preload = partial(onnxruntime.preload_dlls, cudnn=False)
        version = getattr(onnxruntime, "cuda_version", None) or "13"
        cuda.require_cuda(device, onnxruntime.get_available_providers(), version, preload)


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
