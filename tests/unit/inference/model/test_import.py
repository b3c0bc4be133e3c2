"""Import: exact dequantisation, stored layout, hashes, idempotence, and files that are refused whole."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from inference.errors import ModelError, ModelFormatError, StoreError
from inference.model.families.registry import get_family
from inference.model.importing import import_model
from inference.model.layout import compute_file_name, compute_unit_bytes
from inference.model.store import FileChunks, ShardStore, find_unit
from inference.model.stored_values import read_values
from inference.model.tokenizer.data import TokenizerData
from proto_specs.limits import CHUNK_BYTES
from proto_specs.merkle import compute_root
from proto_specs.types.manifest import Form, Unit, UnitKind, WireDtype, compute_model_id, validate_manifest
from tests.unit.inference import tiny
from tests.unit.inference.conftest import TinyModel

LONGROPE = {"llama.rope.scaling.type": "longrope", "llama.rope.scaling.factor": 4}


def _quiet(done: int, total: int) -> None:
    assert 0 <= done <= total


def _read_parts(model: TinyModel, kind: UnitKind, index: int) -> dict[str, np.ndarray]:
    path = model.directory / compute_file_name(kind, index)
    tensors = model.cut(0, tiny.LAYERS).get_tensors(kind, index)
    return {name: values for tensor in tensors for name, values in read_values(path, tensor).items()}


def test_every_tensor_is_stored_where_the_layout_says(model: TinyModel) -> None:
    w = model.weights
    assert_array_equal(_read_parts(model, UnitKind.EMBED, 0)["embed"], w["token_embd"])
    head = _read_parts(model, UnitKind.HEAD, 0)
    assert_array_equal(head["norm"], w["output_norm"])
    if "output" in w:
        assert_array_equal(head["head"], w["output"])
    names = {"q": "attn_q", "k": "attn_k", "v": "attn_v", "attn_out": "attn_output"}
    names |= {"gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down", "attn_norm": "attn_norm", "ffn_norm": "ffn_norm"}
    for layer in range(tiny.LAYERS):
        parts = _read_parts(model, UnitKind.LAYER, layer)
        assert parts.keys() == names.keys()
        for part, name in names.items():
            assert_array_equal(parts[part], w[f"blk.{layer}.{name}"])


def test_the_manifest_is_valid_and_describes_the_model(model: TinyModel) -> None:
    manifest = model.manifest
    validate_manifest(manifest)
    architecture = manifest.architecture
    assert (architecture.layers, architecture.hidden, architecture.vocab) == (3, 64, len(tiny.TOKENS))
    decoder = get_family(architecture.family).read_architecture(architecture)
    assert (decoder.kv_heads, decoder.rope_theta, decoder.norm_epsilon) == (2, "10000.0", "1e-05")
    assert decoder.tied_embeddings == ("output" not in model.weights)
    assert get_family("llama").write_architecture(decoder) == architecture
    assert manifest.eos_tokens == (0, 2)
    for unit in manifest.units:
        model.store.verify_unit(model.model_id, unit)
        tensors = model.cut(0, tiny.LAYERS).get_tensors(UnitKind(unit.kind), unit.index)
        assert not tensors or unit.bytes_total == compute_unit_bytes(tensors)
    assert model.store.load_manifest(model.model_id) == manifest
    assert model.store.list_models() == [model.model_id]


def test_quantised_tensors_stay_quantised_at_their_exact_values(tmp_path: Path) -> None:
    weights = tiny.make_weights()
    names = frozenset({"token_embd", "blk.1.attn_q", "blk.1.ffn_down"})
    kind = gguf.GGMLQuantizationType.Q8_0
    exact = {n: gguf.quants.dequantize(gguf.quants.quantize(weights[n], kind), kind) for n in names}
    assert not np.array_equal(exact["token_embd"], weights["token_embd"])
    path = tiny.write_gguf(tmp_path / "q.gguf", weights, quantised=names)
    manifest = import_model(path, tmp_path / "models", _quiet)
    model = TinyModel(weights, path, ShardStore(tmp_path / "models"), manifest)
    assert_array_equal(_read_parts(model, UnitKind.EMBED, 0)["embed"], exact["token_embd"])
    layer = _read_parts(model, UnitKind.LAYER, 1)
    assert_array_equal(layer["down"], exact["blk.1.ffn_down"])
    halves = gguf.quants.quantize(tiny.interleave(weights["blk.1.attn_q"]), kind)  # the format quantises its own order
    assert_array_equal(tiny.interleave(layer["q"]), gguf.quants.dequantize(halves, kind))
    forms = {one.index: one.forms for one in manifest.units if one.kind == UnitKind.LAYER}
    q8 = Form.Q8_B32
    assert forms[1] == (0, q8, 0, 0, 0, 0, 0, 0, q8)
    assert forms[0] == (0,) * 9


def test_a_second_import_is_recognised_and_other_options_are_not(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", tiny.make_weights())
    first = import_model(path, tmp_path / "models", _quiet)
    calls: list[tuple[int, int]] = []
    again = import_model(path, tmp_path / "models", lambda done, total: calls.append((done, total)))
    assert again == first
    assert len(calls) == 1
    assert calls[0][0] == calls[0][1]
    half = import_model(path, tmp_path / "models", _quiet, wire_dtype="fp16")
    assert half.wire_dtype == WireDtype.FP16
    assert compute_model_id(half) != compute_model_id(first)
    with pytest.raises(ModelFormatError, match="wire dtype 'int3'"):
        import_model(path, tmp_path / "models", _quiet, wire_dtype="int3")


def test_an_import_repairs_a_model_that_lost_a_unit(tmp_path: Path) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", tiny.make_weights())
    store = ShardStore(tmp_path / "models")
    manifest = import_model(path, store.root, _quiet)
    model_id = compute_model_id(manifest)
    store.get_unit_path(model_id, find_unit(manifest, UnitKind.LAYER, 1)).unlink()
    assert import_model(path, store.root, _quiet) == manifest
    for unit in manifest.units:
        store.verify_unit(model_id, unit)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "gemma"}, "architecture 'gemma' is not supported"),
        ({"drop": "blk.2.ffn_up"}, "lacks the tensor blk.2.ffn_up.weight"),
        ({"add": "blk.0.attn_q_norm"}, "tensors we do not know, such as blk.0.attn_q_norm"),
        ({"reshape": "blk.1.attn_k"}, r"blk.1.attn_k.weight has shape \(32, 32\), expected \(32, 64\)"),
        ({"poison": "blk.1.attn_k"}, "holds NaN or infinity"),
        ({"extra": LONGROPE}, "rotary scaling 'longrope' .* is not supported"),
        ({"extra": {"llama.attention.sliding_window": 8}}, "llama.attention.sliding_window .* not known here"),
        ({"extra": {"llama.rope.dimension_count": 8}}, "rope.dimension_count .* only 16 can be run"),
        ({"extra": {"llama.attention.key_length": 24}}, "24 wide: the runtime's attention takes multiples of 16"),
        ({"extra": {"tokenizer.ggml.pre": "nobody-knows"}}, "pre-tokenizer 'nobody-knows'"),
    ],
)
def test_models_we_cannot_read_exactly_are_refused(tmp_path: Path, change: dict[str, object], message: str) -> None:
    weights = tiny.make_weights()
    name = str(change.get("drop") or change.get("reshape") or change.get("poison") or "")
    if "drop" in change:
        del weights[name]
    if "add" in change:
        weights[str(change["add"])] = np.ones(16, np.float32)
    if "reshape" in change:
        weights[name] = np.ones((32, 32), np.float32)
    if "poison" in change:
        weights[name][3, 3] = np.nan
    extra = change.get("extra")
    assert extra is None or isinstance(extra, dict)
    path = tmp_path / "m.gguf"
    if "reshape" in change:  # written as V, whose rows are not permuted
        weights["blk.1.attn_v"] = weights.pop(name)
        message = message.replace("attn_k", "attn_v")
        weights[name] = np.ones((32, 64), np.float32)
    tiny.write_gguf(path, weights, architecture=str(change.get("architecture", "llama")), extra=extra)
    with pytest.raises(ModelError, match=message):
        import_model(path, tmp_path / "models", _quiet)
    assert list((tmp_path / "models").glob("*")) == [], "nothing is left behind"


@pytest.mark.parametrize("keep", [0, 3, 20, 1000, 5000, 0.5, 0.999])
def test_truncated_files_are_refused(tmp_path: Path, keep: float) -> None:
    path = tiny.write_gguf(tmp_path / "m.gguf", tiny.make_weights())
    data = path.read_bytes()
    path.write_bytes(data[: int(keep if keep >= 1 or keep == 0 else keep * len(data))])
    with pytest.raises(ModelFormatError, match=r"fetch it again|is no GGUF file"):
        import_model(path, tmp_path / "models", _quiet)
    assert not (tmp_path / "models").exists()


def test_files_that_are_not_there_or_not_gguf_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFormatError, match=r"none.gguf"):
        import_model(tmp_path / "none.gguf", tmp_path, _quiet)
    (tmp_path / "text.gguf").write_text("not a model at all, only words")
    with pytest.raises(ModelFormatError, match="GGUF"):
        import_model(tmp_path / "text.gguf", tmp_path / "models", _quiet)


def test_damage_is_found_and_named(model: TinyModel, tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    model_id = store.save_manifest(model.manifest)
    unit = find_unit(model.manifest, UnitKind.LAYER, 1)
    chunks = [model.store.read_chunk(model.model_id, unit, 0)]
    assert not store.has_unit(model_id, unit)
    with pytest.raises(StoreError, match="not here or cut short"):
        store.verify_unit(model_id, unit)
    path = store.get_unit_path(model_id, unit)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(chunks))
    store.verify_unit(model_id, unit)
    data = bytearray(path.read_bytes())
    data[777] ^= 1
    path.write_bytes(data)
    with pytest.raises(StoreError, match="does not hash"):
        store.verify_unit(model_id, unit)
    path.write_bytes(data[:-1])
    with pytest.raises(StoreError, match="cut short"):
        store.verify_unit(model_id, unit)


def test_chunks_of_a_unit_larger_than_one(tmp_path: Path) -> None:
    data = np.random.default_rng(0).bytes(2 * CHUNK_BYTES + 5)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        chunks = FileChunks(file)
        assert [len(one) for one in chunks] == [CHUNK_BYTES, CHUNK_BYTES, 5]
        assert b"".join(chunks) == data
        assert compute_root(chunks) == compute_root(
            [data[i : i + CHUNK_BYTES] for i in range(0, len(data), CHUNK_BYTES)]
        )


def test_manifests_of_another_model_or_damaged_are_refused(model: TinyModel, tmp_path: Path) -> None:
    store = ShardStore(tmp_path)
    with pytest.raises(StoreError, match="import or fetch it"):
        store.load_manifest(bytes(32))
    model_id = store.save_manifest(model.manifest)
    path = store.get_directory(model_id) / "manifest.msgpack"
    (tmp_path / bytes(32).hex()).mkdir()
    (tmp_path / bytes(32).hex() / "manifest.msgpack").write_bytes(path.read_bytes())
    with pytest.raises(StoreError, match="another model"):
        store.load_manifest(bytes(32))
    path.write_bytes(path.read_bytes() + b"\x00")
    with pytest.raises(StoreError, match="damaged"):
        store.load_manifest(model_id)


def test_chunk_reads_outside_the_unit_are_refused(model: TinyModel) -> None:
    unit = find_unit(model.manifest, UnitKind.LAYER, 0)
    for index in (-1, 1):
        with pytest.raises(StoreError, match="no chunk"):
            model.store.read_chunk(model.model_id, unit, index)
    with pytest.raises(StoreError, match="no unit LAYER 9"):
        find_unit(model.manifest, UnitKind.LAYER, 9)
    with pytest.raises(StoreError, match="no chunk"):
        model.store.read_chunk(model.model_id, Unit(UnitKind.LAYER, 9, 5, bytes(32), ()), 0)


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"[]", b'{"tokens":["a"],"types":[],"merges":[],"pre":"x","bos_token":null}']
)
def test_tokenizer_units_that_are_not_ours_are_refused(data: bytes) -> None:
    with pytest.raises(ModelFormatError):
        TokenizerData.from_bytes(data)


@pytest.mark.parametrize("name", ["x" * 97, "\u00e9" * 49, "a\udcff", "a\nb", "a\0b", "\x1b[31m", " "])
def test_a_name_that_no_manifest_holds_is_refused_at_once(model: TinyModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelFormatError, match="the name") as refusal:
        import_model(model.gguf, tmp_path / "models", _quiet, name=name)
    assert str(refusal.value).isprintable()
    assert not (tmp_path / "models").exists(), "before anything is read or written"


def test_a_file_that_changes_meanwhile_is_not_taken_for_what_it_was(model: TinyModel, tmp_path: Path) -> None:
    """Else a later import of the old file would be recognised, and give the mixture."""
    path = tmp_path / "tiny.gguf"
    path.write_bytes(model.gguf.read_bytes())

    def spoil(done: int, total: int) -> None:
        with path.open("r+b") as file:
            file.seek(-8, 2)
            file.write(bytes(8))

    with pytest.raises(ModelFormatError, match="changed while it was imported"):
        import_model(path, tmp_path / "models", spoil)
    assert list((tmp_path / "models").iterdir()) == []


def test_two_imports_that_end_at_once_give_one_model(
    model: TinyModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both find that the model is not here yet, and one is the later to move it to its place."""
    first = import_model(model.gguf, tmp_path, _quiet, wire_dtype="fp32")
    monkeypatch.setattr(ShardStore, "find_imported", lambda *_: None)
    monkeypatch.setattr(Path, "exists", lambda one: one.suffix == ".gguf")
    assert import_model(model.gguf, tmp_path, _quiet, wire_dtype="fp32") == first
    store = ShardStore(tmp_path)
    for unit in first.units:
        store.verify_unit(compute_model_id(first), unit)
    assert not list(tmp_path.glob(".importing-*"))
