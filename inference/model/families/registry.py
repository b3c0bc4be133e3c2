"""Finds families: every module of this package that has a FAMILY is one. Adding a file is all it takes."""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from inference.errors import ModelFormatError
from inference.model.checkpoint.source import Checkpoint
from inference.model.families.family import Family

_PACKAGE = "inference.model.families"


@cache
def list_families() -> tuple[Family, ...]:
    """All families, in order of name."""
    found = []
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        family = getattr(importlib.import_module(f"{_PACKAGE}.{module.name}"), "FAMILY", None)
        if isinstance(family, Family):
            found.append(family)
    return tuple(sorted(found, key=lambda one: one.name))


def get_family(name: str) -> Family:
    """The family that a manifest names. Raises ModelFormatError when this build does not know it."""
    for family in list_families():
        if family.name == name:
            return family
    known = ", ".join(one.name for one in list_families())
    raise ModelFormatError(f"model family {name!r} is unknown to this version (known: {known}): update it")


def find_family(checkpoint: Checkpoint) -> Family:
    """The family that reads a checkpoint. Raises ModelFormatError naming the kinds there are."""
    known: set[str] = set()
    for family in list_families():
        if family.is_reader(checkpoint):
            return family
        known.update(family.gguf_kinds if checkpoint.is_gguf else family.hf_kinds)
    raise ModelFormatError(
        f"architecture {checkpoint.kind!r:.80} is not supported: supported are {', '.join(sorted(known))}"
    )
