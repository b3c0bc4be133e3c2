"""The nodes families build layers from: norms, products with stored tensors, attention over KV memory.

A row is one position of one sequence. Rows stay flat, [R, width]; attention alone sees [B, T, width], B sequences x T
positions, in that order. On a CPU a call may have rows of some of its sequences only: what attention does for the
others is dropped, and nothing else is done for them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from inference.model.forms import Role
from inference.model.graph.attention import build_attention
from inference.model.graph.product import build_product
from inference.model.graph.provider import Provider
from inference.model.layout import StoredArray, StoredTensor

CONTRIB_DOMAIN = "com.microsoft"
GIVEN_SHAPE = "given."
"""Inputs of a graph for CUDA: after it, the dimensions with dots between, B for the number of sequences."""
_ARRAY_TYPES = {
    "<f4": TensorProto.FLOAT,
    "<f2": TensorProto.FLOAT16,
    "<u2": TensorProto.BFLOAT16,
    "|u1": TensorProto.UINT8,
}


@dataclass(frozen=True)
class Residual:
    """The residual stream [R, C]: `stream`, and a branch that is still to be added (the next norm adds it)."""

    stream: str
    branch: str | None = None

    def plus(self, branch: str) -> Residual:
        """The stream with a branch [R, C] to be added."""
        assert self.branch is None, "the branch before was not added: take the stream from add_norm"
        return Residual(self.stream, branch)


@dataclass
class GraphKit:
    """Nodes, weights and interface of a graph, collected while families walk over their layers."""

    epsilon: float
    provider: Provider = Provider.CPU
    level: int = 0
    """The accuracy level of products with quantised tensors: 0 is fp32, the exact class."""
    has_equal_bits: bool = False
    """Whether a row has the same bits whatever rows are with it, at some cost."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    prefix: str = ""
    layer: int = -1
    _tensors: dict[str, StoredTensor] = field(default_factory=dict)
    _made: dict[str, str] = field(default_factory=dict)
    _count: int = 0
    _files: dict[str, str] = field(default_factory=dict)
    _trunk: list[onnx.NodeProto] = field(default_factory=list)
    _constants: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._trunk, self._constants = self.nodes, self.initializers

    # Weights

    def enter(self, prefix: str, file: str, tensors: Sequence[StoredTensor], layer: int = -1) -> None:
        """Go on in another unit: its tensors are declared, and the names that follow are its parts'."""
        self.prefix, self.layer = prefix, layer
        for tensor in tensors:
            if prefix + tensor.name not in self._tensors:
                self._files[prefix + tensor.name] = file
                if tensor.role is not Role.EXPERTS:  # theirs are declared in the branches that use them
                    self._declare_arrays(prefix + tensor.name, file, tensor)
            self._tensors |= {f"{prefix}{part.name}": tensor for part in tensor.parts}

    def vector(self, part: str) -> str:
        """The name of a stored vector [n], fp32."""
        return f"{self.prefix}{self._tensors[self.prefix + part].name}.values"

    def linear(self, rows: str, *parts: str) -> str:
        """rows [R, K] times the matrices of `parts`, outputs one after another: [R, sum of N]."""
        tensors = list(dict.fromkeys(self._tensors[self.prefix + part] for part in parts))
        assert [p.name for one in tensors for p in one.parts] == list(parts), "joined parts are multiplied as one"
        outputs = [build_product(self, rows, one, f"{self.prefix}{one.name}") for one in tensors]
        return outputs[0] if len(outputs) == 1 else self.node("Concat", outputs, axis=-1)

    def linear_of_expert(self, rows: str, part: str, expert: int) -> str:
        """rows [R, K] times the matrix of one expert: [R, N]. In a branch, it costs nothing when that is not taken."""
        tensor = self._tensors[self.prefix + part]
        name, matrix = f"{self.prefix}{tensor.name}.{expert}", tensor.get_matrix(expert)
        self._declare_arrays(name, self._files[self.prefix + tensor.name], matrix)
        return build_product(self, rows, matrix, name)

    def linear_of_heads(self, rows: str, part: str) -> str:
        """rows [R, H, K], of each head times its own matrix: [R, H, N]."""
        tensor, by_head = self._tensors[self.prefix + part], (1, 0, 2)
        weights = self.reshape(f"{self.prefix}{tensor.name}.values", *tensor.parts[0].shape)
        turned = self.node("Transpose", [self.node("Cast", [weights], to=TensorProto.FLOAT)], perm=(0, 2, 1))
        products = self.node("MatMul", [self.node("Transpose", [rows], perm=by_head), turned])  # [H, R, N]
        return self.node("Transpose", [products], perm=by_head)

    # Branches

    def branch(self, asked: str, rows: str, build: Callable[[], str]) -> str:
        """What `build` makes where `asked` (one bool) is true, else `rows`. Its nodes run in that case alone."""
        nodes, initializers, made = self.nodes, self.initializers, dict(self._made)
        graphs: dict[str, Any] = {}
        for which, make in (("then_branch", build), ("else_branch", lambda: self.node("Identity", [rows]))):
            self.nodes, self.initializers = [], []
            output = helper.make_tensor_value_info(make(), TensorProto.FLOAT, None)
            graphs[which] = helper.make_graph(self.nodes, which, [], [output], self.initializers)
            # Values made inside do not exist outside; constants do.
            self._made = made | {name: value for name, value in self._made.items() if name == value}
        self.nodes, self.initializers = nodes, initializers
        return self.node("If", [asked], **graphs)

    # Arithmetic

    def node(self, kind: str, inputs: Sequence[str], domain: str = "", outputs: Sequence[str] = (), **more: Any) -> str:
        """Adds a node; returns the name of its first output (made up unless `outputs` names them)."""
        self._count += 1
        names = list(outputs) or [f"{self.prefix}{kind}.{self._count}"]
        self.nodes.append(helper.make_node(kind, list(inputs), names, f"{names[0]}:{kind}", domain=domain, **more))
        return names[0]

    def name_outputs(self, kind: str, count: int) -> list[str]:
        """Names for the outputs of a node that has several."""
        self._count += 1
        return [f"{self.prefix}{kind}.{self._count}.{place}" for place in range(count)]

    def constant(self, name: str, value: NDArray[Any]) -> str:
        """A constant of the graph itself, by a name that says its value; declared once."""
        if name not in self._made:
            self._made[name] = name
            self._constants.append(numpy_helper.from_array(value, name))
        return name

    def once(self, name: str, make: Any) -> str:
        """The value called `name`: made by `make()` the first time it is asked for."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def live_shape(self, *shape: int) -> str:
        """A shape that the runtime does not know before it runs: what has it is never computed in advance."""
        if self.provider is Provider.CUDA:
            return self._declare_shape(*shape)
        name = f"live.{'x'.join(map(str, shape))}"

        def make() -> str:
            here, self.nodes = self.nodes, self._trunk  # outside of any branch, so that all share it
            nothing = self.node("Mul", ["batch", self.constant("zero", np.array([0], np.int64))])
            self.node("Add", [nothing, self.constant(f"{name}.plain", np.array(shape, np.int64))], outputs=[name])
            self.nodes = here
            return name

        return self.once(name, make)

    def norm(self, rows: str, part: str) -> str:
        """RMS norm over the last axis, times the vector `part`."""
        weight = self.vector(part)
        return self.node("SimplifiedLayerNormalization", [rows, weight], epsilon=self.epsilon, axis=-1, stash_type=1)

    def add_norm(self, residual: Residual, part: str) -> tuple[str, Residual]:
        """The norm of the stream with its branch added, and that stream."""
        branch = residual.branch
        if branch is None:  # the same kernel as with a branch, so that the place of a cut changes no bit
            branch = self.node("Sub", [residual.stream, residual.stream])
        self._count += 1
        normed, total = f"{self.prefix}{part}.normed", f"{self.prefix}{part}.stream"
        inputs, outputs = [branch, residual.stream, self.vector(part)], [normed, "", "", total]
        self.node("SkipSimplifiedLayerNormalization", inputs, CONTRIB_DOMAIN, outputs, epsilon=self.epsilon)
        return normed, Residual(total)

    def silu(self, rows: str) -> str:
        """x sigmoid(x)."""
        return self.node("QuickGelu", [rows], CONTRIB_DOMAIN, alpha=1.0)

    def gelu_tanh(self, rows: str) -> str:
        """GELU in its tanh form."""
        return self.node("Gelu", [rows], approximate="tanh")

    def multiply(self, one: str, other: str) -> str:
        """Element by element."""
        return self.node("Mul", [one, other])

    def scale(self, rows: str, factor: float) -> str:
        """Times an fp32 number."""
        return self.node("Mul", [rows, self.constant(f"number.{factor!r}", np.array(factor, np.float32))])

    def add(self, one: str, other: str) -> str:
        """Element by element, or a vector to each row."""
        return self.node("Add", [one, other])

    def split(self, rows: str, *widths: int) -> tuple[str, ...]:
        """Columns of [R, sum of widths], in order."""
        sizes = self.constant(f"widths.{'.'.join(map(str, widths))}", np.array(widths, np.int64))
        outputs = self.name_outputs("split", len(widths))
        self.node("Split", [rows, sizes], outputs=outputs, axis=-1)
        return tuple(outputs)

    def cut(self, rows: str, start: int, stop: int) -> str:
        """Rows from `start` to `stop`, which may count from the end."""
        bounds = [self.constant(f"at.{one}", np.array([one], np.int64)) for one in (start, stop)]
        return self.node("Slice", [rows, *bounds])

    def reshape(self, rows: str, *shape: int) -> str:
        """To a shape with at most one -1."""
        name = f"shape.{'x'.join(map(str, shape))}"
        return self.node("Reshape", [rows, self.constant(name, np.array(shape, np.int64))])

    def norm_heads(self, rows: str, part: str, heads: int, head_dim: int) -> str:
        """RMS norm of each head of [R, heads head_dim] alone."""
        return self.reshape(self.norm(self.reshape(rows, -1, head_dim), part), -1, heads * head_dim)

    # Attention

    def batch(self, rows: str, width: int) -> str:
        """[R, width] as [B, T, width]."""
        return self.batch_as(rows, width)

    def batch_as(self, rows: str, *shape: int) -> str:
        """[R, product of shape] as [B, T, *shape]. Sequences without a row get another's."""
        if self.provider is Provider.CUDA:
            return self.node("Reshape", [rows, self._declare_shape("B", -1, *shape)])
        rows = self.node("Gather", [rows, "row_of_place"], axis=0)

        def make() -> str:
            tail = self.constant(f"tail.{'.'.join(map(str, shape))}", np.array([-1, *shape], np.int64))
            return self.node("Concat", ["batch", tail], axis=0)

        return self.node("Reshape", [rows, self.once(f"batched.{'.'.join(map(str, shape))}", make)])

    def flatten(self, batched: str, width: int) -> str:
        """[B, T, width] as [R, width]."""
        rows = self.reshape(batched, -1, width)
        return rows if self.provider is Provider.CUDA else self.node("Gather", [rows, "place_of_row"], axis=0)

    def attend(
        self,
        packed: str,
        heads: int,
        kv_heads: int,
        head_dim: int,
        *,
        split: Sequence[str] = (),
        rope: str = "rope",
        scale: float | None = None,
        window: int = 0,
    ) -> str:
        """Grouped-query attention over the layer's KV memory; returns [R, heads head_dim].

        Takes packed q, k, v [R, (heads + 2 kv_heads) head_dim], or with `split` = (k, v) the queries alone. `rope`
        names the rotary tables, "" for none; a position sees itself and the `window` - 1 before it, or all (0).
        """
        widths = [heads * head_dim, kv_heads * head_dim, kv_heads * head_dim]
        if self.provider is Provider.CUDA:
            rows = [packed, *split] if split else [*self.split(packed, *widths)]
            if rope:
                turned = zip(rows[:2], (heads, kv_heads), strict=True)
                rows[:2] = [self.rotate(one, count, head_dim, rope) for one, count in turned]
            return build_attention(self, rows, heads, kv_heads, head_dim, scale or head_dim**-0.5, window)
        if split:
            values = [self.batch(one, width) for one, width in zip([packed, *split], widths, strict=True)]
        else:
            values = [self.batch(packed, sum(widths)), "", ""]
        tables = [f"cos.{rope}", f"sin.{rope}"] if rope else []
        past = [f"past_key.{self.layer}", f"past_value.{self.layer}"]
        outputs = [f"{self.prefix}attended", f"present_key.{self.layer}", f"present_value.{self.layer}"]
        optional: Mapping[str, Any] = {"scale": scale, "local_window_size": window or None}
        more = {name: value for name, value in optional.items() if value is not None}
        self.node(
            "GroupQueryAttention",
            [*values, *past, "last_position", "total", *tables],
            CONTRIB_DOMAIN,
            outputs,
            num_heads=heads,
            kv_num_heads=kv_heads,
            do_rotary=int(bool(rope)),
            **more,
        )
        return self.flatten(outputs[0], widths[0])

    def rotate(self, rows: str, heads: int, dims: int, rope: str = "rope", is_interleaved: bool = False) -> str:
        """[R, heads dims] with each head turned by its row's position; pairs are neighbours where `is_interleaved`."""
        batched = self.batch(rows, heads * dims)
        turned = self.node(
            "RotaryEmbedding",
            [batched, self.get_positions(), f"cos.{rope}", f"sin.{rope}"],
            CONTRIB_DOMAIN,
            num_heads=heads,
            rotary_embedding_dim=dims,
            interleaved=int(is_interleaved),
        )
        return self.flatten(turned, heads * dims)

    def get_positions(self) -> str:
        """The position of each row, [B, T] int64."""
        return "positions" if self.provider is Provider.CUDA else self.once("positions", self._build_positions)

    def _build_positions(self) -> str:
        one = self.constant("integer.1", np.array(1, np.int64))
        length = self.node("Div", [self.node("Shape", ["row_of_place"], end=1), "batch"])  # [1]: T
        length = self.node("Squeeze", [length])
        steps = self.node("Range", [self.node("Sub", [one, length]), one, one])  # 1 - T .. 0
        last = self.node("Cast", ["last_position"], to=TensorProto.INT64)
        axis = self.constant("second_axis", np.array([1], np.int64))
        return self.node("Add", [self.node("Unsqueeze", [last, axis]), steps])

    # Interface

    def declare(self, name: str, kind: int, shape: Sequence[int | str], is_output: bool = False) -> None:
        """An input or output of the graph."""
        (self.outputs if is_output else self.inputs).append(helper.make_tensor_value_info(name, kind, shape))

    def _declare_arrays(self, name: str, file: str, tensor: StoredTensor) -> None:
        for array in tensor.arrays:
            self._declare_array(f"{name}.{array.name}", file, array)

    def _declare_shape(self, *shape: int | str) -> str:
        """A shape that the caller gives, by a name that says it: computed here it would come back from the device."""
        name = GIVEN_SHAPE + ".".join(map(str, shape))

        def make() -> str:
            self.declare(name, TensorProto.INT64, [len(shape)])
            return name

        return self.once(name, make)

    def _declare_array(self, name: str, file: str, array: StoredArray) -> None:
        kind = TensorProto.FLOAT8E4M3FN if array.name == "floats" else _ARRAY_TYPES[array.dtype]
        tensor = TensorProto(name=name, data_type=kind, dims=array.shape)
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in {"location": file, "offset": array.offset, "length": array.size}.items():
            tensor.external_data.add(key=key, value=str(value))
        self.initializers.append(tensor)
