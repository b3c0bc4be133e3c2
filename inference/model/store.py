"""Models on disk: one directory per model id with its manifest and one hashed file per unit.

    <root>/<model id hex>/manifest.msgpack  embed.bin  layer-000.bin ...  head.bin  tokenizer.json  chat_template.jinja
    <root>/imported/<sha256 of source and options>       the model id an import of that source gave

Units appear by rename only, so a file that exists was once whole; `verify_unit` says whether it still is.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, overload

from inference.errors import StoreError
from inference.model.layout import compute_file_name
from proto_specs import merkle
from proto_specs.codec import decode, encode
from proto_specs.errors import ProtocolError
from proto_specs.limits import CHUNK_BYTES, MANIFEST_BYTES_MAX
from proto_specs.types.manifest import Manifest, Unit, UnitKind, compute_model_id, validate_manifest

MANIFEST_FILE = "manifest.msgpack"
_MODEL_NAME = re.compile("[0-9a-f]{64}")
IMPORTED_DIRECTORY = "imported"
_WORKSPACE = ".importing-"
_WORKSPACE_S_MAX = 86_400
"""No import takes longer between two files that it writes."""

Progress = Callable[[int, int], None]


class FileChunks(Sequence[bytes]):
    """The 1 MiB chunks of an open file, read one at a time: what a unit's Merkle root is taken over."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __len__(self) -> int:
        return -(-self._size // CHUNK_BYTES)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[one] for one in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        self._file.seek(index * CHUNK_BYTES)
        return self._file.read(CHUNK_BYTES)


class ShardStore:
    """All models under one root directory. Safe to share between processes: files are replaced, never changed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def list_models(self) -> list[bytes]:
        """Ids of the models whose manifest is here, sorted; their units may be incomplete."""
        names = [one.parent.name for one in self.root.glob(f"*/{MANIFEST_FILE}")]
        return sorted(bytes.fromhex(one) for one in names if _MODEL_NAME.fullmatch(one))

    def get_directory(self, model_id: bytes) -> Path:
        """Where the units of a model lie."""
        return self.root / model_id.hex()

    def load_manifest(self, model_id: bytes) -> Manifest:
        """Raises StoreError when the manifest is absent or is not the one the id names."""
        path = self.get_directory(model_id) / MANIFEST_FILE
        try:
            manifest = decode(Manifest, path.read_bytes(), MANIFEST_BYTES_MAX)
            validate_manifest(manifest)
        except FileNotFoundError as error:
            raise StoreError(f"model {model_id.hex()} is not in {self.root}: import or fetch it") from error
        except ProtocolError as error:
            raise StoreError(
                f"{path} is damaged or of another version ({error}): delete the directory, import or fetch again"
            ) from error
        if compute_model_id(manifest) != model_id:
            raise StoreError(f"{path} is of another model: delete the directory, import or fetch again")
        return manifest

    def save_manifest(self, manifest: Manifest) -> bytes:
        """Store a manifest (validated) so that its units can be fetched; returns the model id."""
        validate_manifest(manifest)
        model_id = compute_model_id(manifest)
        self.get_directory(model_id).mkdir(parents=True, exist_ok=True)
        self._replace(self.get_directory(model_id) / MANIFEST_FILE, [encode(manifest)])
        return model_id

    def get_unit_path(self, model_id: bytes, unit: Unit) -> Path:
        """File of a unit, whether or not it is here yet."""
        return self.get_directory(model_id) / compute_file_name(UnitKind(unit.kind), unit.index)

    def has_unit(self, model_id: bytes, unit: Unit) -> bool:
        """Whether the unit's file is here with the right length (its content is `verify_unit`'s matter)."""
        path = self.get_unit_path(model_id, unit)
        return path.is_file() and path.stat().st_size == unit.bytes_total

    def verify_unit(self, model_id: bytes, unit: Unit) -> None:
        """Hash the whole file. Raises StoreError when it is absent or differs from the manifest's root."""
        path = self.get_unit_path(model_id, unit)
        if not self.has_unit(model_id, unit):
            raise StoreError(f"{path.name} of {model_id.hex()[:16]} is not here or cut short: import or fetch it")
        if compute_file_root(path) != unit.root:
            raise StoreError(f"{path} does not hash to its manifest's root: delete it, then import or fetch it again")

    def read_chunk(self, model_id: bytes, unit: Unit, index: int) -> bytes:
        """Chunk `index` of a unit (1 MiB, the last one shorter). Raises StoreError when it is not here."""
        if not self.has_unit(model_id, unit) or not 0 <= index < -(-unit.bytes_total // CHUNK_BYTES):
            raise StoreError(f"no chunk {index} of unit {unit.kind}/{unit.index} of {model_id.hex()[:16]} here")
        with self.get_unit_path(model_id, unit).open("rb") as file:
            return FileChunks(file)[index]

    def read_unit(self, model_id: bytes, kind: UnitKind) -> bytes:
        """Verified bytes of a small unit (tokenizer, chat template)."""
        unit = find_unit(self.load_manifest(model_id), kind)
        self.verify_unit(model_id, unit)
        return self.get_unit_path(model_id, unit).read_bytes()

    def find_imported(self, source: str) -> Manifest | None:
        """The manifest an earlier import of this source (hex digest) gave, if all its units are still here."""
        record = self.root / IMPORTED_DIRECTORY / source
        try:
            model_id = bytes.fromhex(record.read_text())
            manifest = self.load_manifest(model_id)
        except (FileNotFoundError, ValueError, StoreError):
            return None
        return manifest if all(self.has_unit(model_id, unit) for unit in manifest.units) else None

    def adopt(self, directory: Path, manifest: Manifest, source: str) -> None:
        """Move a complete directory of units, written beside the models, to its place; remember its source."""
        model_id = compute_model_id(manifest)
        self._replace(directory / MANIFEST_FILE, [encode(manifest)])
        target = self.get_directory(model_id)
        try:
            directory.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Partial, or damaged in length: `find_imported` did not accept it. Or of another import that ended now.
            for file in directory.iterdir():
                file.replace(target / file.name)
            directory.rmdir()
        (self.root / IMPORTED_DIRECTORY).mkdir(exist_ok=True)
        self._replace(self.root / IMPORTED_DIRECTORY / source, [model_id.hex().encode()])

    def make_workspace(self) -> Path:
        """A fresh directory on the store's file system, for `adopt`. The caller removes it on failure."""
        self.root.mkdir(parents=True, exist_ok=True)
        for left in self.root.glob(f"{_WORKSPACE}*"):  # of an import that was killed
            if time.time() - left.stat().st_mtime > _WORKSPACE_S_MAX:
                shutil.rmtree(left, ignore_errors=True)
        return Path(tempfile.mkdtemp(prefix=_WORKSPACE, dir=self.root))

    @staticmethod
    def _replace(path: Path, pieces: Iterable[bytes]) -> None:
        _write_partial(path, pieces).replace(path)


def find_unit(manifest: Manifest, kind: UnitKind, index: int = 0) -> Unit:
    """The unit of this kind and index. Raises StoreError when the manifest has none."""
    for unit in manifest.units:
        if (unit.kind, unit.index) == (kind, index):
            return unit
    raise StoreError(f"{manifest.name} has no unit {kind.name} {index}")


def compute_file_root(path: Path) -> bytes:
    """Merkle root over a file's 1 MiB chunks, reading one chunk at a time."""
    return merkle.compute_root_of_leaves(compute_file_leaves(path))


def compute_file_leaves(path: Path) -> list[bytes]:
    """The leaves under that root."""
    with path.open("rb") as file:
        return [merkle.hash_leaf(chunk) for chunk in FileChunks(file)]


def _write_partial(path: Path, pieces: Iterable[bytes]) -> Path:
    """Write to a new file beside `path`, synced; removed again if the pieces raise."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    partial = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return partial
