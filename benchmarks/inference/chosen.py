"""Which model is measured: a checkpoint, imported first, or a stored model by name; and the file the peer reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from inference.errors import ModelFormatError
from inference.model.fetch import SMOLLM2, cache_dir
from inference.model.importing import import_model
from inference.model.store import ShardStore
from node.cli.bars import make_progress
from node.cli.models import import_sample
from node.cli.stored_models import find_model
from proto_specs.types.manifest import Manifest, compute_model_id


@dataclass(frozen=True, slots=True)
class ChosenModel:
    """A stored model, and the GGUF file it came from where that is known."""

    models: Path
    id_hex: str
    name: str
    file: Path | None


def choose_model(text: str | None, models: Path, console: Console) -> ChosenModel:
    """The sample model without a text; else a GGUF file, a Hugging Face directory, or a stored model's name or id.

    Raises ModelFormatError for a checkpoint that cannot be imported, StoreError for a name that no stored model has,
    FetchError.
    """
    sample = cache_dir() / SMOLLM2.file
    if text is None:
        return _choose(import_sample(models, console), models, sample)
    path = Path(text)
    if path.exists():
        with make_progress(console) as progress:
            importing = progress.add_task("import", total=None)
            manifest = import_model(
                path, models, lambda done, total: progress.update(importing, completed=done, total=total)
            )
        return _choose(manifest, models, path if path.is_file() else None)
    if path.suffix == ".gguf" or len(path.parts) > 1:
        raise ModelFormatError(f"no file {path}: check the path")
    store = ShardStore(models)
    manifest = store.load_manifest(find_model(store, text))
    return _choose(manifest, models, sample if manifest.name == SMOLLM2.model and sample.is_file() else None)


def _choose(manifest: Manifest, models: Path, file: Path | None) -> ChosenModel:
    return ChosenModel(models, compute_model_id(manifest).hex(), manifest.name, file)
