"""A config.json alone says what an import of the model weighs, in every family; R1's numbers are the published ones."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from inference.errors import ModelFormatError
from inference.model.graph.shard import ShardRange
from inference.model.layout import compute_unit_bytes
from inference.planning.config import PRECISIONS, read_config_shape
from inference.planning.shape import make_manifest_shape
from proto_specs.types.manifest import UnitKind
from tests.unit.inference.model.families import reference
from tests.unit.inference.model.families.cases import MAIN, OPTIONS
from tests.unit.inference.model.families.reference import Case
from tests.unit.inference.model.families.sparse_cases import SPARSE_MAIN, SPARSE_OPTIONS

R1 = Path(__file__).parent / "deepseek-r1"
GIGA = 10**9


@pytest.mark.parametrize("case", [*MAIN, *OPTIONS[:1], *SPARSE_MAIN, *SPARSE_OPTIONS[4:6]], ids=str)
def test_a_config_alone_gives_the_bytes_of_the_import(case: Case, tmp_path: Path) -> None:
    model = reference.make_model(case)
    path = reference.save_model(model, tmp_path / "checkpoint")
    stored = reference.import_path(path, tmp_path / "models").manifest
    shape = read_config_shape(path / "config.json", "fp32")
    sizes = {(unit.kind, unit.index): unit.bytes_total for unit in stored.units}
    assert shape.embed_bytes == sizes[UnitKind.EMBED, 0]
    assert shape.head.stored_bytes == sizes[UnitKind.HEAD, 0]
    assert [one.stored_bytes for one in shape.layers] == [
        sizes[UnitKind.LAYER, index] for index in range(len(shape.layers))
    ]
    assert shape.parameters == sum(one.numel() for one in model.parameters()) + sum(
        one.numel() for name, one in model.named_buffers() if name.endswith("correction_bias")
    )
    assert make_manifest_shape(stored) == replace(shape, name=stored.name)
    for index in range(len(shape.layers)):
        parts = ShardRange(stored, index, index + 1).get_tensors(UnitKind.LAYER, index)
        assert compute_unit_bytes(parts) == shape.layers[index].stored_bytes


def test_deepseek_r1_is_what_is_published_of_it() -> None:
    shape = read_config_shape(R1, "q4")
    assert shape.name == "deepseek-r1"
    assert round(shape.parameters / GIGA) == 671
    active = shape.active_parameters + shape.embed_parameters  # 37 B with the embedding, which is looked up
    assert round(active / GIGA, 1) == 37.6
    assert shape.row_bytes == 7168 * 2
    dense, sparse = shape.layers[0], shape.layers[3]
    assert [one.experts for one in shape.layers] == [0] * 3 + [256] * 58
    assert sparse.kv_bytes == dense.kv_bytes == (512 + 64) * 4
    assert sparse.expert_bytes == pytest.approx(3 * 7168 * 2048 * 20 / 32)  # 16 bytes of codes and a scale for 32
    assert sparse.chosen == 8
    assert sparse.attention_flops == 2 * 128 * 2 * 576


def test_the_precision_is_the_files_own_unless_another_is_asked_for() -> None:
    sizes = {name: read_config_shape(R1, name).stored_bytes for name in PRECISIONS}
    assert read_config_shape(R1).stored_bytes == sizes["fp8"]
    assert sizes["q4"] < sizes["q4-min"] < sizes["fp8"] < sizes["q8"] < sizes["bf16"] == sizes["fp16"] < sizes["fp32"]


def test_rows_touch_more_experts_the_more_they_are() -> None:
    layer = read_config_shape(R1, "q4").layers[3]
    one, two, many = (layer.count_read_bytes(rows, 0) - layer.dense_bytes for rows in (1, 2, 10_000))
    assert one == pytest.approx(8 * layer.expert_bytes)
    assert two == pytest.approx((16 - 8 * 8 / 256) * layer.expert_bytes)
    assert many == pytest.approx(256 * layer.expert_bytes)


def test_16_bit_matrices_are_held_in_32_but_experts_are_not() -> None:
    narrow, wide = (read_config_shape(R1, name).layers[3] for name in ("bf16", "fp32"))
    assert narrow.dense_bytes == wide.dense_bytes
    assert narrow.expert_bytes * 2 == wide.expert_bytes


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("{ not json", "cannot be read"),
        ("[]", "cannot be read"),
        ("{}", "names no model_type"),
        ('{"model_type": "mamba"}', "not supported"),
        ('{"model_type": "llama"}', "lacks the setting"),
        ('{"model_type": "llama", "hidden_size": 1e99}', "hidden_size"),
        ('{"model_type": "llama", "quantization_config": {"quant_method": "awq"}}', "lacks the setting"),
    ],
)
def test_what_is_no_config_is_refused_in_one_line(config: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_text(config)
    with pytest.raises(ModelFormatError, match=said) as caught:
        read_config_shape(file)
    assert "\n" not in str(caught.value)


def test_a_quantised_checkpoint_has_to_be_told_what_it_will_be(tmp_path: Path) -> None:
    config = json.loads((R1 / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelFormatError, match="--precision"):
        read_config_shape(tmp_path)
    assert read_config_shape(tmp_path, "q4").layers == read_config_shape(R1, "q4").layers
    for arguments in (("q3", "bf16"), ("q4", "int8")):
        with pytest.raises(ModelFormatError, match="is unknown: use"):
            read_config_shape(tmp_path, *arguments)
    with pytest.raises(ModelFormatError, match="cannot be read"):
        read_config_shape(tmp_path / "none.json")
