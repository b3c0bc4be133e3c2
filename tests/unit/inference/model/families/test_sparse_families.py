"""What checkpoints of experts have besides: fp8 with scales, stacks, heads not split; and how ties are resolved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnxruntime
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from numpy.typing import NDArray
from onnx import TensorProto, helper
from safetensors.torch import load_file, save_file

from inference.engine.kv_memory import KvCache
from inference.errors import ModelFormatError
from inference.model.families.deepseek import compute_softmax_scale
from inference.model.families.deepseek_settings import DeepseekDecoder
from inference.model.graph import build
from inference.model.graph.experts import Routing, build_routing
from inference.model.graph.kit import GraphKit
from inference.model.graph.shard import ShardRange
from proto_specs.types.manifest import Form
from tests.unit.inference.model.families import gguf_export, reference
from tests.unit.inference.model.families.reference import compute_distance, draw_tokens
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS, SPARSE_WIDE

CASES = {one.name: one for one in (*SPARSE_MAIN, *SPARSE_OPTIONS, *SPARSE_WIDE)}
TOKENS = draw_tokens(40)
FP8_BLOCK = 128
Tensors = dict[str, torch.Tensor]


def _edit_tensors(path: Path, edit: Callable[[Tensors], Tensors]) -> Path:
    file = path / "model.safetensors"
    save_file(edit(load_file(file)), file)
    return path


def _quantise_fp8(tensors: Tensors) -> Tensors:
    """Projections as DeepSeek publishes them: e4m3 with a scale for each square of 128."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        if not name.endswith("_proj.weight"):
            found[name] = tensor
            continue
        rows, columns = tensor.shape
        scales = torch.rand(-(-rows // FP8_BLOCK), -(-columns // FP8_BLOCK)) * 1e-3 + 1e-3
        spread = scales.repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)[:rows, :columns]
        found[name] = (tensor / spread).clamp(-448, 448).to(torch.float8_e4m3fn)
        found[f"{name}_scale_inv"] = scales
    return found


def _expand_fp8(tensors: Tensors) -> Tensors:
    """The same in fp32."""
    found: Tensors = {}
    for name, tensor in tensors.items():
        scales = tensors.get(f"{name}_scale_inv")
        if scales is not None:
            rows, columns = tensor.shape
            spread = scales.repeat_interleave(FP8_BLOCK, 0).repeat_interleave(FP8_BLOCK, 1)[:rows, :columns]
            found[name] = tensor.float() * spread
        elif not name.endswith("_scale_inv"):
            found[name] = tensor
    return found


@pytest.mark.parametrize("name", ["deepseek-v3", "deepseek-v2", "deepseek-v3-wide"])
def test_fp8_checkpoints_are_read_at_their_exact_values(name: str, tmp_path: Path) -> None:
    """Experts stay fp8 where their columns are whole blocks; the rest is widened when it is imported."""
    model = reference.make_model(CASES[name])
    path = _edit_tensors(reference.save_model(model, tmp_path / "fp8"), _quantise_fp8)
    plain = reference.save_model(model, tmp_path / "plain")
    (plain / "model.safetensors").write_bytes((path / "model.safetensors").read_bytes())
    _edit_tensors(plain, _expand_fp8)
    fp8 = {"quant_method": "fp8", "weight_block_size": [FP8_BLOCK, FP8_BLOCK], "fmt": "e4m3"}
    reference.edit_config(path, lambda config: config.update(quantization_config=fp8))
    stored = reference.import_path(path, tmp_path / "fp8-models")
    assert any(Form.F8_B128 in unit.forms for unit in stored.manifest.units) == name.endswith("wide")
    logits = reference.compute_logits(stored.load(), TOKENS)
    wanted = reference.compute_reference(reference.load_reference(plain), TOKENS)
    assert compute_distance(logits, wanted) <= CASES[name].tolerance
    widened = reference.compute_logits(reference.import_path(plain, tmp_path / "plain-models").load(), TOKENS)
    assert compute_distance(logits, widened) <= 1e-6


def _stack(tensors: Tensors) -> Tensors:
    """Experts of a layer as two tensors, gate over up, as transformers has them in memory."""
    found = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    stems = sorted({name.split(".experts.")[0] for name in tensors if ".experts." in name})
    names = ("w1", "w3", "w2") if any(".w1." in name for name in tensors) else ("gate_proj", "up_proj", "down_proj")
    for stem in stems:
        count = sum(name.startswith(f"{stem}.experts.") for name in tensors) // 3
        gate, up, down = (
            torch.stack([tensors[f"{stem}.experts.{place}.{one}.weight"] for place in range(count)]) for one in names
        )
        target = stem.replace("block_sparse_moe", "mlp")
        found |= {f"{target}.experts.gate_up_proj": torch.cat([gate, up], 1), f"{target}.experts.down_proj": down}
    return found


@pytest.mark.parametrize("name", ["mixtral", "qwen3moe", "deepseek-v3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_stacked_experts_are_those_that_stand_apart(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path = reference.save_model(reference.make_model(CASES[name]), tmp_path / "checkpoint", dtype)
    apart = reference.import_path(path, tmp_path / "apart").manifest
    assert reference.import_path(_edit_tensors(path, _stack), tmp_path / "stacked").manifest == apart


def test_layers_that_predict_further_ahead_are_left_out(tmp_path: Path) -> None:
    path = reference.save_model(reference.make_model(CASES["deepseek-v3"]), tmp_path / "checkpoint")
    plain = reference.import_path(path, tmp_path / "plain").manifest
    _edit_tensors(path, lambda tensors: {**tensors, "model.layers.3.eh_proj.weight": torch.zeros(4, 4)})
    reference.edit_config(path, lambda config: config.update(num_nextn_predict_layers=1))
    assert reference.import_path(path, tmp_path / "ahead").manifest == plain
    reference.edit_config(path, lambda config: config.update(num_nextn_predict_layers=0))
    with pytest.raises(ModelFormatError, match=r"model\.layers\.3\.eh_proj"):
        reference.import_path(path, tmp_path / "unknown")


def test_gguf_files_with_heads_not_split_are_the_same_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["deepseek-v2"]
    model = reference.make_model(case)
    split = reference.import_path(gguf_export.write_gguf(model, case.gguf, tmp_path / "a.gguf"), tmp_path / "a")
    monkeypatch.setattr(gguf_export, "split_stacks", lambda state, config: _split_experts_alone(state, config))
    whole = reference.import_path(gguf_export.write_gguf(model, case.gguf, tmp_path / "b.gguf"), tmp_path / "b")
    assert [one.root for one in whole.manifest.units] == [one.root for one in split.manifest.units]


def test_old_gguf_files_of_mixtral_have_experts_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES["mixtral-wide"]
    wanted: list[bytes] = []
    for name in ("stacked", "apart"):
        path = gguf_export.write_gguf(
            reference.make_model(case), case.gguf, tmp_path / f"{name}.gguf", choose=lambda target: Kind.Q8_0
        )
        wanted.append(path.read_bytes())
        monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", _add_experts_apart)
    stored = [reference.import_path(tmp_path / f"{name}.gguf", tmp_path / name) for name in ("stacked", "apart")]
    assert wanted[0] != wanted[1]
    assert stored[0].manifest == stored[1].manifest


_add_tensor = gguf.GGUFWriter.add_tensor


def _add_experts_apart(writer: gguf.GGUFWriter, name: str, tensor: NDArray[np.generic], **more: Any) -> None:
    if not name.endswith("_exps.weight"):
        _add_tensor(writer, name, tensor, **more)
        return
    for place, one in enumerate(tensor):
        _add_tensor(writer, name.replace("_exps.weight", f".{place}.weight"), np.ascontiguousarray(one), **more)


_split_all = gguf_export.split_stacks


def _split_experts_alone(state: Tensors, config: object) -> list[tuple[str, torch.Tensor]]:
    heads = [(name, tensor) for name, tensor in state.items() if "kv_b_proj" in name]
    return [*_split_all({name: tensor for name, tensor in state.items() if "kv_b_proj" not in name}, config), *heads]


@pytest.mark.parametrize("name", ["mixtral", "qwen3moe", "deepseek-v3", "deepseek-v2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
def test_rows_have_the_same_bits_however_a_sequence_is_run(name: str, dtype: torch.dtype, tmp_path: Path) -> None:
    path = reference.save_model(reference.make_model(CASES[name]), tmp_path / "checkpoint", dtype)
    _check_bits(reference.import_path(path, tmp_path / "models"))


@pytest.mark.parametrize("kind", [Kind.Q4_0, Kind.Q4_1, Kind.Q8_0], ids=lambda one: one.name)
@pytest.mark.parametrize("name", ["qwen3moe-wide", "mixtral-wide"])
def test_rows_of_blocks_have_the_same_bits_however_a_sequence_is_run(name: str, kind: Kind, tmp_path: Path) -> None:
    case = CASES[name]
    path = gguf_export.write_gguf(
        reference.make_model(case), case.gguf, tmp_path / "tiny.gguf", choose=lambda target: kind
    )
    _check_bits(reference.import_path(path, tmp_path / "models"))


def _check_bits(stored: reference.StoredModel) -> None:
    session = stored.load()
    whole = session.run(session.open_kv(reference.CAPACITY), TOKENS).hidden
    for cuts in (range(1, len(TOKENS)), [8, 9, 30]):
        kv = session.open_kv(reference.CAPACITY)
        pieces = [session.run(kv, piece).hidden for piece in np.split(TOKENS, list(cuts))]
        assert np.array_equal(np.concatenate(pieces), whole)
    memory = session.make_memory(2, len(TOKENS))
    caches = [KvCache(memory, slot) for slot in range(2)]
    for kv, start in zip(caches, (32, 20), strict=True):
        session.run(kv, TOKENS[:start])
    for step in range(7):
        rows = [TOKENS[start + step :][:1] for start in (32, 20)]
        first, second = session.run_together(caches, rows, [False, False])
        assert np.array_equal(first.hidden[0], whole[32 + step])
        assert np.array_equal(second.hidden[0], whole[20 + step])
    assert memory.lengths == [39, 27]


@pytest.mark.parametrize("name", ["mixtral", "deepseek-v3"])
def test_a_shard_of_very_many_experts_runs_in_pieces(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = reference.make_model(CASES[name])
    stored = reference.import_path(reference.save_model(model, tmp_path / "checkpoint"), tmp_path / "models")
    whole = reference.compute_logits(stored.load(), TOKENS)
    monkeypatch.setattr(build, "BRANCHES_MAX", 9)
    assert len(build.list_pieces(ShardRange(stored.manifest, 0, stored.layers))) > 1
    session = stored.load()
    assert compute_distance(reference.compute_logits(session, TOKENS, [7, 8, 9]), whole) <= 1e-5
    together = reference.compute_together(session, [TOKENS, TOKENS[:20]], steps=4)
    assert compute_distance(together[0], whole[-4:]) <= 1e-5


@pytest.mark.parametrize(
    ("name", "settings", "reason"),
    [
        ("mixtral", {"num_experts_per_tok": 7}, "7 of 6 experts"),
        ("mixtral", {"num_local_experts": 10**6}, "num_local_experts"),
        ("qwen3moe", {"mlp_only_layers": ["0"]}, "mlp_only_layers"),
        ("qwen3moe", {"decoder_sparse_step": 0}, "decoder_sparse_step"),
        ("qwen3moe", {"attention_bias": True}, "attention_bias"),
        ("deepseek-v3", {"attention_bias": True}, "attention_bias"),
        ("deepseek-v3", {"scoring_func": "softmax"}, "scoring_func"),
        ("deepseek-v3", {"topk_method": "greedy"}, "topk_method"),
        ("deepseek-v3", {"n_group": 3}, "of 3 groups"),
        ("deepseek-v3", {"num_experts_per_tok": 5}, "5 of 8 experts"),
        ("deepseek-v3", {"moe_layer_freq": 2}, "moe_layer_freq"),
        ("deepseek-v3", {"kv_lora_rank": 30}, "multiple of 8"),
        ("deepseek-v2", {"norm_topk_prob": True}, "norm_topk_prob"),
        ("deepseek-v2", {"topk_method": "noaux_tc"}, "noaux_tc"),
    ],
)
def test_what_cannot_be_run_is_refused(name: str, settings: dict[str, object], reason: str, tmp_path: Path) -> None:
    path = reference.save_model(reference.make_model(CASES[name]), tmp_path / "checkpoint")
    reference.edit_config(path, lambda config: config.update(settings))
    with pytest.raises(ModelFormatError, match=reason):
        reference.import_path(path, tmp_path / "models")


def _route(routing: Routing, logits: list[list[float]], bias: list[float] | None = None) -> list[NDArray[np.float32]]:
    """Chosen experts and weights of each row, experts in ascending order."""
    kit = GraphKit(epsilon=1e-6)
    named = None if bias is None else kit.constant("bias", np.array(bias, np.float32))
    chosen, weights = build_routing(kit, "logits", routing, named)
    kinds = [(chosen, TensorProto.INT64), (weights, TensorProto.FLOAT)]
    outputs = [helper.make_tensor_value_info(name, kind, None) for name, kind in kinds]
    inputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["R", routing.experts])]
    graph = helper.make_graph(kit.nodes, "routing", inputs, outputs, kit.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    places, shares = session.run(None, {"logits": np.array(logits, np.float32)})
    order = places.argsort(axis=1)
    return [np.take_along_axis(one, order, axis=1) for one in (places, shares)]


def test_ties_take_the_lower_expert_whatever_the_other_rows_are() -> None:
    routing = Routing(8, 3, renormalised=True)
    ties: list[list[float]] = [[1.0] * 8, [0, 2, 2, 2, 2, 2, 0, 0], [0, 0, 0, 0, 0, 0, 0, 5]]
    places, shares = _route(routing, ties)
    assert places.tolist() == [[0, 1, 2], [1, 2, 3], [0, 1, 7]]
    np.testing.assert_allclose(shares[0], 1 / 3, rtol=1e-6)
    for row, wanted in zip(ties, places.tolist(), strict=True):
        assert _route(routing, [row])[0].tolist() == [wanted]


def test_a_bias_changes_the_choice_and_not_the_weight() -> None:
    routing = Routing(4, 2, renormalised=False, scale=2.0, by_sigmoid=True)
    places, shares = _route(routing, [[3.0, 2.0, 1.0, 0.0]], bias=[0.0, 0.0, 0.0, 9.0])
    assert places.tolist() == [[0, 3]]
    np.testing.assert_allclose(shares[0], [2 / (1 + np.exp(-3.0)), 1.0], rtol=1e-6)


def test_experts_outside_the_best_groups_are_never_chosen() -> None:
    routing = Routing(6, 2, False, by_sigmoid=True, groups=3, groups_chosen=1, group_best=2, passed_over=-np.inf)
    places, _ = _route(routing, [[9.0, -9.0, 1.0, 1.0, 0.0, 0.0]], bias=[-2.0, -2.0, 0.0, 0.0, -1.9, -1.9])
    assert places.tolist() == [[2, 3]]


def test_the_softmax_scale_of_deepseek_v3_is_the_published_one() -> None:
    decoder = DeepseekDecoder(
        layers=61,
        hidden=7168,
        vocab=129280,
        context_max=163840,
        heads=128,
        kv_heads=1,
        head_dim=576,
        ffn=18432,
        rope_theta="10000.0",
        norm_epsilon="1e-06",
        tied_embeddings=False,
        rope_scaling="yarn 40 32 1 4096 1 1",
        nope_dims=128,
        rope_dims=64,
    )
    assert compute_softmax_scale(decoder) == pytest.approx(0.13523, abs=5e-6)
