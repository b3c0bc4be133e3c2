"""Directories of Hugging Face: values of every dtype, shards, settings, and files that do not fit each other."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from inference.errors import ModelFormatError
from inference.model.checkpoint import hf_directory
from inference.model.checkpoint.hf_directory import open_hf
from inference.model.checkpoint.rope_settings import RopeSettings, read_rope
from proto_specs.types.manifest import Form
from tests.unit.inference.model.checkpoint.bounds import assert_refused
from tests.unit.inference.model.checkpoint.raw_safetensors import CONFIG, make_file, store, write_directory

WEIGHTS = np.random.default_rng(0).normal(0, 1, (6, 8)).astype(np.float32)
TENSORS = {
    "single": store(WEIGHTS),
    "half": store(WEIGHTS.astype("<f2"), "F16"),
    "brain": store((WEIGHTS.view("<u4") >> 16).astype("<u2"), "BF16"),
    "norm": store(WEIGHTS[0]),
    "experts": store(WEIGHTS.reshape(3, 2, 8)),
}


def _make_fp8(rows: int, columns: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (rows, columns)).astype(np.uint8)
    codes[codes & 127 == 127] = 0
    return codes, rng.normal(0, 1e-3, (-(-rows // 128), -(-columns // 128))).astype(np.float32)


@pytest.mark.parametrize("shards", [0, 1, 3])
def test_values_forms_and_shapes(tmp_path: Path, shards: int) -> None:
    opened = open_hf(write_directory(tmp_path / "tiny", TENSORS, shards=shards))
    assert (opened.kind, opened.name, opened.path) == ("llama", "tiny", tmp_path / "tiny")
    assert opened.names() == TENSORS.keys()
    assert opened.get_shape("experts") == (3, 2, 8)
    forms = {"single": Form.FP32, "half": Form.FP16, "brain": Form.BF16, "norm": Form.FP32, "experts": Form.FP32}
    assert {name: opened.get_form(name) for name in opened.names()} == forms
    np.testing.assert_array_equal(opened.read("single"), WEIGHTS)
    np.testing.assert_array_equal(opened.read("half"), WEIGHTS.astype("<f2").astype(np.float32))
    np.testing.assert_array_equal(opened.read("brain").view("<u4"), WEIGHTS.view("<u4") & 0xFFFF0000)
    np.testing.assert_array_equal(opened.read("norm"), WEIGHTS[0])
    np.testing.assert_array_equal(opened.read("experts", slice(1, 3)), WEIGHTS.reshape(3, 2, 8)[1:])
    for rows in (slice(2, 5), slice(4, 99), slice(3, 3), slice(-2, None)):
        np.testing.assert_array_equal(opened.read("single", rows), WEIGHTS[rows])
        assert opened.read("half", rows).shape == WEIGHTS[rows].shape
    for ask in (opened.get_shape, opened.get_form, opened.read):
        with pytest.raises(ModelFormatError, match="lacks the tensor nothing"):
            ask("nothing")


def test_the_library_writes_what_we_read(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save_file
    wanted = {
        "brain": torch.from_numpy(WEIGHTS).to(torch.bfloat16),
        "half": torch.from_numpy(WEIGHTS[:3]).to(torch.float16),
        "single": torch.from_numpy(WEIGHTS),
        "eight": torch.arange(256, dtype=torch.uint8).reshape(2, 128)[:, :127].contiguous().view(torch.float8_e4m3fn),
        "eight_scale_inv": torch.tensor([[0.37]]),
    }
    save(wanted, tmp_path / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    opened = open_hf(tmp_path)
    for name in ("brain", "half", "single"):
        np.testing.assert_array_equal(opened.read(name), wanted[name].float().numpy())
    np.testing.assert_array_equal(opened.read("eight"), (wanted["eight"].float() * wanted["eight_scale_inv"]).numpy())


def test_a_model_that_transformers_saved_in_shards(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, vocab_size=64, head_dim=16
    )
    model = transformers.LlamaForCausalLM(config).to(pytest.importorskip("torch").bfloat16)
    model.save_pretrained(tmp_path / "saved", max_shard_size="16KB")
    opened = open_hf(tmp_path / "saved")
    wanted = {name: one.float().numpy() for name, one in model.state_dict().items()}
    assert len(list((tmp_path / "saved").glob("*.safetensors"))) > 1
    assert opened.names() == wanted.keys()
    for name, values in wanted.items():
        assert opened.get_form(name) is Form.BF16
        np.testing.assert_array_equal(opened.read(name), values)
    assert (opened.kind, opened.settings["dtype"], opened.settings["hidden_size"]) == ("llama", "bfloat16", 32)
    assert read_rope(opened.settings) == RopeSettings(10_000.0, 1.0, None)


@pytest.mark.parametrize(("rows", "columns"), [(256, 384), (300, 200), (1, 1), (128, 129)])
def test_fp8_values_are_times_their_block_scale(tmp_path: Path, rows: int, columns: int) -> None:
    codes, scales = _make_fp8(rows, columns)
    tensors = {"w": store(codes, "F8_E4M3"), "w_scale_inv": store(scales), "other_scale_inv": store(WEIGHTS)}
    opened = open_hf(write_directory(tmp_path, tensors))
    assert opened.names() == {"w", "other_scale_inv"}
    assert opened.get_form("w") is Form.F8_B128
    wanted = np.kron(scales, np.ones((128, 128), np.float32))[:rows, :columns]
    exponent, fraction = (codes >> 3 & 15).astype(int), (codes & 7) / 8
    sizes = np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7.0))
    wanted = wanted * (sizes * np.where(codes & 128, -1, 1)).astype(np.float32)
    np.testing.assert_array_equal(opened.read("w"), wanted)
    for part in (slice(100, 140), slice(128, 256), slice(127, 129), slice(0, 1), slice(5, 5)):
        np.testing.assert_array_equal(opened.read("w", part), wanted[part])


@pytest.mark.parametrize("code", [0x7F, 0xFF])
def test_fp8_codes_that_are_no_numbers_are_refused(tmp_path: Path, code: int) -> None:
    codes, scales = _make_fp8(4, 4)
    codes[3, 1] = code
    opened = open_hf(write_directory(tmp_path, {"w": store(codes, "F8_E4M3"), "w_scale_inv": store(scales)}))
    assert_refused(lambda: opened.read("w"), "NaN or infinity")


def test_fp8_without_fitting_scales_is_refused(tmp_path: Path) -> None:
    codes, scales = _make_fp8(200, 200)
    stored = store(codes, "F8_E4M3")
    bare = open_hf(write_directory(tmp_path / "a", {"w": stored}))
    assert_refused(lambda: bare.read("w"), "without scales")
    other = open_hf(write_directory(tmp_path / "b", {"w": stored, "w_scale_inv": store(scales[:1])}))
    assert_refused(lambda: other.read("w"), r"only scales of 128 x 128")
    wide = open_hf(write_directory(tmp_path / "c", {"w": stored, "w_scale_inv": store(scales.astype("<f8"), "F64")}))
    assert_refused(lambda: wide.read("w"), r"only scales of 128 x 128")
    scales[0, 1] = np.nan
    nan = open_hf(write_directory(tmp_path / "d", {"w": stored, "w_scale_inv": store(scales)}))
    assert_refused(lambda: nan.read("w"), "NaN or infinity")


@pytest.mark.parametrize("dtype", ["F64", "I64", "BOOL", "F8_E5M2"])
def test_dtypes_of_no_weights_are_refused(tmp_path: Path, dtype: str) -> None:
    size = {"F64": 8, "I64": 8, "BOOL": 1, "F8_E5M2": 1}[dtype]
    opened = open_hf(write_directory(tmp_path, {"w": (dtype, (2, 2), bytes(4 * size)), "one": ("F32", (), bytes(4))}))
    assert_refused(lambda: opened.get_form("w"), f"w is {dtype}")
    assert_refused(lambda: opened.read("w"), f"w is {dtype}")
    assert_refused(lambda: opened.read("one"), "single number")


@pytest.mark.parametrize(("dtype", "item"), [("F32", b"\0\0\xc0\x7f"), ("F16", b"\0\xfc"), ("BF16", b"\x80\x7f")])
def test_values_that_are_no_numbers_are_refused(tmp_path: Path, dtype: str, item: bytes) -> None:
    opened = open_hf(write_directory(tmp_path, {"w": (dtype, (3,), item * 3)}))
    assert_refused(lambda: opened.read("w"), "NaN or infinity")


def test_settings_are_those_of_the_language_model(tmp_path: Path) -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 640, "torch_dtype": "float32"}
    config = {"model_type": "gemma3", "torch_dtype": "bfloat16", "eos_token_id": [1, 106], "text_config": inner}
    opened = open_hf(write_directory(tmp_path / "a", TENSORS, config))
    wanted = {"model_type": "gemma3_text", "hidden_size": 640, "dtype": "float32", "eos_token_id": [1, 106]}
    assert (opened.kind, opened.settings) == ("gemma3_text", wanted)
    new = open_hf(write_directory(tmp_path / "b", TENSORS, {"model_type": "llama", "dtype": "bfloat16"}))
    assert new.settings == {"model_type": "llama", "dtype": "bfloat16"}


def test_a_view_of_the_cache_is_read_and_named_after_its_model(tmp_path: Path) -> None:
    view = tmp_path / "models--owner--Tiny-1B" / "snapshots" / "abc123"
    blobs = view.parent.parent / "blobs"
    blobs.mkdir(parents=True)
    write_directory(view, TENSORS)
    for index, path in enumerate(sorted(view.iterdir())):
        path.rename(blobs / str(index))
        path.symlink_to(Path("../../blobs") / str(index))
    opened = open_hf(view)
    assert opened.name == "Tiny-1B"
    np.testing.assert_array_equal(opened.read("single"), WEIGHTS)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors"])
def test_links_out_of_the_directory_are_refused(tmp_path: Path, file: str) -> None:
    inside = write_directory(tmp_path / "m", TENSORS)
    (inside / file).rename(tmp_path / file)
    (inside / file).symlink_to(tmp_path / file)
    assert_refused(lambda: open_hf(inside), "link out of m")
    (inside / file).unlink()
    (inside / file).symlink_to(file)
    assert_refused(lambda: open_hf(inside), f"cannot be read|lacks {file}|has neither")


def test_a_link_within_the_directory_is_read(tmp_path: Path) -> None:
    inside = write_directory(tmp_path / "m", TENSORS)
    (inside / "model.safetensors").rename(inside / "other")
    (inside / "model.safetensors").symlink_to("other")
    assert open_hf(inside).names() == TENSORS.keys()


@pytest.mark.parametrize(
    "file",
    [
        "../m.safetensors",
        "/etc/m.safetensors",
        "a/b.safetensors",
        "",
        ".",
        "config.json",
        "a\0.safetensors",
        "x.bin",
        7,
    ],
)
def test_an_index_names_files_of_its_directory_alone(tmp_path: Path, file: object) -> None:
    path = write_directory(tmp_path, TENSORS, shards=2)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"single": file}}))
    assert_refused(lambda: open_hf(path), "no file of|names no files")


@pytest.mark.parametrize(
    "index",
    [b"[]", b"{}", b'{"weight_map": 3}', b'{"weight_map": {}}', b'{"weight_map": {"a": []}}', b"", b"\xff", b"{"],
)
def test_an_index_of_another_shape_is_refused(tmp_path: Path, index: bytes) -> None:
    path = write_directory(tmp_path, TENSORS, shards=2)
    (path / "model.safetensors.index.json").write_bytes(index)
    assert_refused(lambda: open_hf(path))


def test_an_index_that_does_not_fit_its_shards_is_refused(tmp_path: Path) -> None:
    path = write_directory(tmp_path / "tiny", TENSORS, shards=2)
    index = path / "model.safetensors.index.json"
    stated = json.loads(index.read_text())["weight_map"]
    first, second = sorted(set(stated.values()))

    def state(changes: dict[str, str], without: str = "") -> None:
        changed = {name: file for name, file in {**stated, **changes}.items() if name != without}
        index.write_text(json.dumps({"weight_map": changed}))

    state({"more": first})
    assert_refused(lambda: open_hf(path), "lacks the tensor 'more'")
    state({}, without="half")
    assert_refused(lambda: open_hf(path), "does not list 'half'")
    state({"half": first if stated["half"] == second else second})
    assert_refused(lambda: open_hf(path), "does not list 'half'")
    (path / first).write_bytes(make_file({**TENSORS}))
    state({})
    assert_refused(lambda: open_hf(path), "does not list")
    (path / first).unlink()
    assert_refused(lambda: open_hf(path), f"tiny lacks {first}")


def test_an_index_of_too_many_files_is_refused(tmp_path: Path) -> None:
    path = write_directory(tmp_path, TENSORS, shards=2)
    files = {f"w{index}": f"{index}.safetensors" for index in range(hf_directory.SHARDS_MAX + 1)}
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    assert_refused(lambda: open_hf(path), "names 513 files")


@pytest.mark.parametrize(
    ("config", "match"),
    [
        ("", "too short"),
        ("{", "cannot be read"),
        ("[1]", "no object"),
        ("{}", "no model_type"),
        ('{"model_type": 3}', "no model_type"),
        ('{"model_type": "a", "model_type": "b"}', "there twice"),
        ('{"model_type": "a", "x": NaN}', "a number is nan"),
        ('{"model_type": "a", "x": -Infinity}', "a number is -inf"),
        ('{"model_type": "a", "x": 1e999}', "a number is inf"),
        ('{"model_type": "a", "x": ' + "9" * 30 + "}", "more than 64 bits"),
        ('{"model_type": "a", "x": ' + "[" * 17 + "]" * 17 + "}", "nested too deep"),
        ('{"model_type": "a", "x": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read"),
        ('{"model_type": "\\ud800"}', "surrogates"),
        ('{"model_type": "a", "quantization_config": {"quant_method": "awq"}}', "quantised with 'awq'"),
        ('{"model_type": "a", "quantization_config": "gptq"}', "quantised with 'gptq'"),
        ('{"model_type": "a", "quantization_config": {"quant_method": "fp8"}}', "fp8 without scales"),
    ],
)
def test_settings_of_another_shape_are_refused(tmp_path: Path, config: str, match: str) -> None:
    write_directory(tmp_path, TENSORS)
    (tmp_path / "config.json").write_text(config)
    assert_refused(lambda: open_hf(tmp_path), match)


def test_fp8_settings_of_deepseek_are_accepted(tmp_path: Path) -> None:
    stated = {"quant_method": "fp8", "weight_block_size": [128, 128], "fmt": "e4m3", "activation_scheme": "dynamic"}
    opened = open_hf(write_directory(tmp_path, TENSORS, {"model_type": "deepseek_v3", "quantization_config": stated}))
    assert opened.kind == "deepseek_v3"


def test_a_large_config_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    write_directory(tmp_path, TENSORS)
    with (tmp_path / "config.json").open("wb") as file:
        file.truncate(1 << 40)
    assert_refused(lambda: open_hf(tmp_path), "bytes long")


def test_pickled_weights_are_refused_with_what_to_do(tmp_path: Path) -> None:
    (write_directory(tmp_path, TENSORS) / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    assert_refused(lambda: open_hf(tmp_path), r"pytorch_model\.bin, a pickle .* save_pretrained")
    (tmp_path / "pytorch_model.bin").unlink()
    assert_refused(lambda: open_hf(tmp_path), "has neither")
    (tmp_path / "config.json").unlink()
    assert_refused(lambda: open_hf(tmp_path), r"lacks config\.json")
