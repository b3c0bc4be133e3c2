"""Turns a GGUF file into a stored model: units written tensor by tensor, hashed, then a manifest over them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from inference.errors import ModelFormatError
from inference.model.gguf import GgufModel
from inference.model.layout import (
    ALIGNMENT_BYTES,
    compute_file_name,
    compute_slots,
    compute_unit_bytes,
)
from inference.model.store import Progress, ShardStore, compute_file_root
from proto_specs.errors import DecodeError
from proto_specs.limits import CHUNK_BYTES
from proto_specs.types.manifest import (
    ExecutionProfile,
    Manifest,
    ServiceClass,
    Unit,
    UnitKind,
    WireDtype,
    validate_manifest,
)

# The exact class on the CPU provider, by the dtype of its boundaries: docs/models.md, "How the thresholds were set".
_THRESHOLD_PPB = {WireDtype.FP32: 40_000, WireDtype.FP16: 15_000, WireDtype.BF16: 8_000}
_TOKEN_MARGIN_MICRO = 2_000
_FORMAT = b"myelin-import-1"


def import_gguf(
    path: Path, root: Path, progress: Progress, wire_dtype: str = "bf16", name: str | None = None
) -> Manifest:
    """Import a llama-family GGUF file into the shard store at `root`, under `name` or the name the file gives itself.

    Peak memory is about one tensor (vocabulary tables go in blocks). `progress(done, total)` counts bytes written.
    An import of the same file with the same options is recognised by digest and costs one read of the file.
    Raises ModelFormatError (with what to do) for a file we cannot read exactly; nothing is left behind then.
    """
    try:
        dtype = {"fp32": WireDtype.FP32, "fp16": WireDtype.FP16, "bf16": WireDtype.BF16}[wire_dtype]
    except KeyError:
        raise ModelFormatError(f"wire dtype {wire_dtype!r} is unknown: use fp32, fp16 or bf16") from None
    store = ShardStore(root)
    source = _compute_source(path, dtype, name or "")
    known = store.find_imported(source)
    if known is not None:
        total = sum(unit.bytes_total for unit in known.units)
        progress(total, total)
        return known
    model = GgufModel(path)
    workspace = store.make_workspace()
    try:
        manifest = Manifest(
            name=name or model.config.name,
            architecture=model.config.architecture,
            service_class=ServiceClass.EXACT,
            wire_dtype=dtype,
            eos_tokens=model.config.eos_tokens,
            units=tuple(_write_units(model, workspace, progress)),
            profile=make_exact_profile(dtype),
        )
        try:
            validate_manifest(manifest)
        except DecodeError as error:
            raise ModelFormatError(f"{path.name} makes no valid manifest: {error}") from error
        store.adopt(workspace, manifest, source)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return manifest


def make_exact_profile(wire_dtype: WireDtype) -> ExecutionProfile:
    """The execution profile of models imported here, with the thresholds measured for that wire dtype."""
    return ExecutionProfile(
        precision="fp32",
        engine="onnxruntime-1.31",
        provider="cpu",
        threshold_ppb=_THRESHOLD_PPB[wire_dtype],
        token_margin_micro=_TOKEN_MARGIN_MICRO,
    )


def _write_units(model: GgufModel, directory: Path, progress: Progress) -> Iterator[Unit]:
    architecture = model.config.architecture
    text = {
        UnitKind.TOKENIZER: model.tokenizer.to_bytes(),
        UnitKind.CHAT_TEMPLATE: model.config.chat_template.encode(),
    }
    order = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, one) for one in range(architecture.layers)), (UnitKind.HEAD, 0)]
    sizes = {kind: compute_unit_bytes(compute_slots(architecture, kind)) for kind in UnitKind}
    total = sum(sizes[kind] for kind, _ in order) + sum(map(len, text.values()))
    done = 0
    for kind, index in [*order, *((kind, 0) for kind in text)]:
        path = directory / compute_file_name(kind, index)
        with path.open("wb") as file:
            for piece in [text[kind]] if kind in text else _iterate_unit(model, kind, index):
                done += file.write(piece)
                progress(done, total)
        yield Unit(kind, index, path.stat().st_size, compute_file_root(path))


def _iterate_unit(model: GgufModel, kind: UnitKind, index: int) -> Iterator[bytes | memoryview]:
    """The bytes of a weight unit in file order, padding included, about one tensor at a time."""
    position = 0
    for slot in compute_slots(model.config.architecture, kind):
        if position < slot.offset:
            assert slot.offset - position < ALIGNMENT_BYTES
            yield bytes(slot.offset - position)
        for rows in model.read_slot(kind, index, slot):
            yield rows.astype("<f4", copy=False).data.cast("B")
        position = slot.offset + slot.size


def _compute_source(path: Path, dtype: WireDtype, name: str) -> str:
    """Hex digest of the file and everything else the result depends on."""
    if not path.is_file():
        raise ModelFormatError(f"no file {path}: check the path")
    digest = hashlib.sha256(_FORMAT + bytes([dtype]) + name.encode() + b"\0")
    with path.open("rb") as file:
        while piece := file.read(CHUNK_BYTES):
            digest.update(piece)
    return digest.hexdigest()
