"""Opens a checkpoint by what lies at a path. Knows which formats there are, and nothing of what they hold."""

from __future__ import annotations

from pathlib import Path

from inference.errors import ModelFormatError
from inference.model.checkpoint.gguf_file import PART_NAME, open_gguf
from inference.model.checkpoint.gguf_header import MAGIC
from inference.model.checkpoint.hf_directory import CONFIG_FILE, INDEX_FILE, WEIGHTS_FILE, open_hf
from inference.model.checkpoint.source import Checkpoint


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a GGUF file, a directory of Hugging Face, or a directory with one GGUF, whole or in parts.

    Raises ModelFormatError, which says what was found, for everything else.
    """
    try:
        if path.is_dir():
            return _open_directory(path)
        if not path.is_file():
            raise ModelFormatError(f"no file or directory {path}: check the path, or fetch the model")
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
    except OSError as error:
        raise ModelFormatError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    if start == MAGIC:
        return open_gguf(path)
    if path.suffix == ".safetensors":
        raise ModelFormatError(f"{path.name} comes with a {CONFIG_FILE}: give the directory that holds both")
    raise ModelFormatError(f"{path.name} is no GGUF file: give one, or a directory with {WEIGHTS_FILE}")


def _open_directory(path: Path) -> Checkpoint:
    files = {one.name for one in path.iterdir()}
    models = {_get_model(file) for file in files if file.endswith(".gguf")}
    if files & {WEIGHTS_FILE, INDEX_FILE} or (CONFIG_FILE in files and not models):
        return open_hf(path)
    if not models:
        raise ModelFormatError(f"{path.name} holds neither a GGUF file nor {WEIGHTS_FILE}: give a model's directory")
    if len(models) > 1:
        named = ", ".join(sorted(models)[:4])
        raise ModelFormatError(f"{path.name} holds {len(models)} models ({named}): give the file of one")
    return open_gguf(path / min(file for file in files if file.endswith(".gguf")))


def _get_model(file: str) -> str:
    """What the parts of one model have in common."""
    part = PART_NAME.fullmatch(file)
    return f"{part['stem']} in {part['count']} parts" if part else file
