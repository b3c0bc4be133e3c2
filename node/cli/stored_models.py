"""Finds a stored model by what a person calls it."""

from __future__ import annotations

import re

from inference.errors import StoreError
from inference.model.store import ShardStore

_MODEL_ID = re.compile("(0x)?[0-9a-f]{64}", re.IGNORECASE)


def find_wanted_model(store: ShardStore, text: str) -> bytes:
    """As `find_model`, but a whole id may be of a model that is not stored yet."""
    return bytes.fromhex(text[-64:]) if _MODEL_ID.fullmatch(text) else find_model(store, text)


def find_model(store: ShardStore, text: str | None) -> bytes:
    """A stored model by id, unique id prefix or name; without a name, the only stored model.

    Raises StoreError listing the stored models.
    """
    if text is None:
        stored = store.list_models()
        if len(stored) == 1:
            return stored[0]
        raise StoreError(f"{len(stored)} models are stored: say which one with --model (`myelin model list`)")
    wanted = text.removeprefix("0x").lower()
    known = {}
    for model in store.list_models():
        try:
            known[model] = store.load_manifest(model).name
        except StoreError:
            if model.hex().startswith(wanted):  # one that cannot be read is no reason not to find another
                raise
    found = [one for one, name in known.items() if name.lower() == text.lower() or one.hex().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise StoreError(f"{text!r} fits {len(found)} stored models: give more of the id")
    listed = ", ".join(f"{name} ({one.hex()[:12]})" for one, name in known.items()) or "none: run `myelin model import`"
    raise StoreError(f"no stored model is called {text!r}; stored: {listed}")
