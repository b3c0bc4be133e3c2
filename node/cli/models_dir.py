"""The directory of shard storage. Imports nothing heavy: a validator without the duty to verify needs it too."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from inference.model.fetch import cache_dir

ModelsOption = Annotated[Path | None, typer.Option("--models", help="Shard storage (default: the user's cache).")]


def get_models_dir(models: Path | None) -> Path:
    """The directory of shard storage: the given one, or the default."""
    return models if models is not None else cache_dir() / "models"
