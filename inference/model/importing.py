"""Turns a checkpoint into a stored model: checked whole, written unit by unit, hashed, then a manifest over them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from inference.engine.golden import compute_golden, compute_range
from inference.errors import ModelFormatError
from inference.model.checkpoint.opening import open_checkpoint
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Decoder, Family, Ref
from inference.model.families.registry import find_family
from inference.model.forms import BLOCK_FORMS, Role
from inference.model.layout import Part, StoredTensor, compute_file_name, compute_unit_bytes, place_tensors
from inference.model.profiles import make_profile
from inference.model.store import Progress, ShardStore, compute_file_root
from inference.model.text import ModelText, read_text
from inference.model.unit_writer import check_part, choose_form, write_unit
from proto_specs.codec import encode
from proto_specs.errors import DecodeError
from proto_specs.limits import CHUNK_BYTES, MODEL_NAME_BYTES_MAX
from proto_specs.types.manifest import (
    Form,
    Manifest,
    ServiceClass,
    Unit,
    UnitKind,
    WireDtype,
    validate_manifest,
)

_FORMAT = b"myelin-import-2"


@dataclass(frozen=True)
class _PlannedUnit:
    """A weight unit as it will be written."""

    kind: UnitKind
    index: int
    forms: tuple[Form, ...]
    tensors: tuple[StoredTensor, ...]
    refs: dict[str, Ref]

    @property
    def size(self) -> int:
        return compute_unit_bytes(self.tensors)


def import_model(
    path: Path,
    root: Path,
    progress: Progress,
    wire_dtype: str = "bf16",
    name: str | None = None,
    is_calibrated: bool = True,
    service_class: ServiceClass = ServiceClass.EXACT,
) -> Manifest:
    """Import a GGUF file or a Hugging Face directory into the shard store at `root`.

    The model is called `name`, or what it calls itself. Everything that can be checked is checked before anything is
    written. Peak memory is a block of rows, or a layer where the model `is_calibrated`: run once, layer by layer, for
    its golden windows and the ranges of its boundaries. `progress(done, total)` counts bytes written and
    of layers run. An import of the same source with the same options is recognised by digest and costs one read of it.
    Raises ModelFormatError or TokenizerError, with what to do, for a model that cannot be run exactly; nothing is left.
    """
    try:
        dtype = {"fp32": WireDtype.FP32, "fp16": WireDtype.FP16, "bf16": WireDtype.BF16}[wire_dtype]
    except KeyError:
        raise ModelFormatError(f"wire dtype {wire_dtype!r} is unknown: use bf16, fp16 or fp32") from None
    if name:
        _check_name(name)
    store = ShardStore(root)
    state = _read_state(path)
    checkpoint = open_checkpoint(path)
    source = _compute_source(path, (dtype, is_calibrated, service_class), name or "")
    _check_name(name or checkpoint.name)
    known = store.find_imported(source)
    if known is not None:
        total = sum(unit.bytes_total for unit in known.units)
        progress(total, total)
        return known
    family = find_family(checkpoint)
    decoder = family.read_gguf(checkpoint) if checkpoint.is_gguf else family.read_hf(checkpoint)
    family.check(decoder)
    text = read_text(checkpoint, decoder.vocab)
    planned = _plan_units(checkpoint, family, decoder)
    if service_class is ServiceClass.FAST and not any(form in BLOCK_FORMS for one in planned for form in one.forms):
        raise ModelFormatError(f"{path.name} has no quantised weights, which the fast class is about: leave it exact")
    written = sum(one.size for one in planned) + len(text.tokenizer) + len(text.chat_template.encode())
    run = sum(one.size for one in planned if one.kind is UnitKind.LAYER) if is_calibrated else 0
    advance = _count(progress, written + run)
    workspace = store.make_workspace()
    try:
        manifest = Manifest(
            name=name or checkpoint.name,
            architecture=family.write_architecture(decoder),
            service_class=service_class,
            wire_dtype=dtype,
            eos_tokens=text.eos_tokens,
            units=tuple(_write_units(checkpoint, planned, text, workspace, advance)),
            profile=make_profile(service_class, dtype, 2 if _has_experts(planned) else 1),
            ranges=(),
            thresholds=(),
        )
        if _read_state(path) != state:
            raise ModelFormatError(f"{path.name} changed while it was imported: import it again")
        try:
            validate_manifest(manifest)
            encode(manifest)
            if is_calibrated:
                manifest = _calibrate(manifest, workspace, advance)
                validate_manifest(manifest)
        except DecodeError as error:
            raise ModelFormatError(f"{path.name} makes no valid manifest: {error}") from error
        store.adopt(workspace, manifest, source)
    finally:
        shutil.rmtree(workspace, ignore_errors=True)
    return manifest


def _check_name(name: str) -> None:
    """Raises ModelFormatError for a name that a manifest cannot hold, or a terminal not show."""
    if not name.isprintable() or not name.strip():
        raise ModelFormatError(f"the name {name!a:.80} has characters that cannot be shown: give another (--name)")
    if len(name.encode()) > MODEL_NAME_BYTES_MAX:
        raise ModelFormatError(
            f"the name {name:.40}... is longer than {MODEL_NAME_BYTES_MAX} bytes: give another (--name)"
        )


def _count(progress: Progress, total: int) -> Callable[[int], None]:
    """Tells `progress` of every step towards the total."""
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(min(done, total), total)

    return advance


def _calibrate(manifest: Manifest, directory: Path, advance: Callable[[int], None]) -> Manifest:
    """The manifest with golden units, written beside the others, and ranges."""
    units, ranges = list(manifest.units), []
    for boundary, rows in enumerate(compute_golden(manifest, directory)):
        path = directory / compute_file_name(UnitKind.GOLDEN, boundary)
        path.write_bytes(rows.astype("<u4" if boundary == 0 else "<f4").tobytes())
        units.append(Unit(UnitKind.GOLDEN, boundary, path.stat().st_size, compute_file_root(path), ()))
        if boundary:
            ranges.append(compute_range(rows))
            advance(manifest.units[boundary].bytes_total)  # that of layer `boundary` - 1: the embedding comes first
    return replace(manifest, units=tuple(units), ranges=tuple(ranges))


def _has_experts(planned: Sequence[_PlannedUnit]) -> bool:
    return any(tensor.role is Role.EXPERTS for unit in planned for tensor in unit.tensors)


def _plan_units(checkpoint: Checkpoint, family: Family, decoder: Decoder) -> list[_PlannedUnit]:
    """All weight units, every part found in its shape and no tensor of the checkpoint left out."""
    order = [(UnitKind.EMBED, 0), *((UnitKind.LAYER, one) for one in range(decoder.layers)), (UnitKind.HEAD, 0)]
    planned: list[_PlannedUnit] = []
    used: set[str] = set(family.list_ignored(decoder, checkpoint))
    for kind, index in order:
        parts = family.list_parts(decoder, kind, index)
        refs = {one.name: _find(checkpoint, family, decoder, one, kind, index) for one in parts}
        for one in parts:
            check_part(checkpoint, refs[one.name], one)
            used.update(refs[one.name].names)
        forms = tuple(choose_form(checkpoint, refs[one.name], one) for one in parts)
        planned.append(_PlannedUnit(kind, index, forms, place_tensors(parts, forms), refs))
    extra = sorted(checkpoint.names() - used)
    if extra:
        raise ModelFormatError(
            f"{checkpoint.path.name} holds tensors we do not know, such as {extra[0]}: not supported"
        )
    return planned


def _find(checkpoint: Checkpoint, family: Family, decoder: Decoder, part: Part, kind: UnitKind, layer: int) -> Ref:
    find = family.find_gguf if checkpoint.is_gguf else family.find_hf
    ref = find(decoder, part.name, kind, layer)
    while ref.otherwise is not None and ref.names[0] not in checkpoint.names():
        ref = ref.otherwise
    return ref


def _write_units(
    checkpoint: Checkpoint,
    planned: Sequence[_PlannedUnit],
    text: ModelText,
    directory: Path,
    advance: Callable[[int], None],
) -> Iterator[Unit]:
    texts = {UnitKind.TOKENIZER: text.tokenizer, UnitKind.CHAT_TEMPLATE: text.chat_template.encode()}
    for one in planned:
        path = directory / compute_file_name(one.kind, one.index)
        write_unit(path, one.tensors, checkpoint, one.refs, advance)
        yield Unit(one.kind, one.index, one.size, compute_file_root(path), tuple(map(int, one.forms)))
    for kind, data in texts.items():
        path = directory / compute_file_name(kind, 0)
        path.write_bytes(data)
        advance(len(data))
        yield Unit(kind, 0, len(data), compute_file_root(path), ())


def _compute_source(path: Path, options: tuple[int, ...], name: str) -> str:
    """Hex digest of the checkpoint's files and everything else the result depends on."""
    digest = hashlib.sha256(_FORMAT + bytes(options) + name.encode() + b"\0")
    files = _list_files(path)
    for one in files:
        digest.update(one.name.encode() + b"\0" if len(files) > 1 else b"")
        with one.open("rb") as file:
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
    return digest.hexdigest()


def _list_files(path: Path) -> list[Path]:
    """The checkpoint's files, or at most those that lie around it."""
    return sorted(one for one in path.iterdir() if one.is_file()) if path.is_dir() else _list_split(path)


def _read_state(path: Path) -> list[tuple[str, int, int, int]]:
    """What differs once a file is written to or replaced: name, inode, length and time of each. Empty for no file."""
    found = [(one.name, one.stat()) for one in _list_files(path) if one.is_file()] if path.exists() else []
    return [(name, one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found]


def _list_split(path: Path) -> list[Path]:
    """The files of a split GGUF of which `path` is one, else `path` alone."""
    stem, found, tail = path.name.rpartition("-of-")
    if not found or not tail.endswith(".gguf"):
        return [path]
    return sorted(path.parent.glob(f"{stem[:-5]}?????-of-{tail}"))
