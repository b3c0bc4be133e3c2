"""Which stored model is meant: the one that is named, or the only one that anybody can serve."""

from __future__ import annotations

from typing import Any

import pytest

from myelin.client import Client, ModelAmbiguous


class ListedStore:
    """A store that lists what a test says."""

    def __init__(self, *models: bytes) -> None:
        self._models = models

    def list_models(self) -> list[bytes]:
        return list(self._models)


def choose(stored: tuple[bytes, ...], registered: tuple[bytes, ...], name: str | None) -> bytes:
    missing: Any = None
    store: Any = ListedStore(*stored)
    return Client(missing, missing, store, registered)._find_model(name)  # noqa: SLF001


A, B = b"a" * 32, b"b" * 32


def test_without_a_name_the_only_model_on_chain_is_meant() -> None:
    assert choose((A,), (), None) == A
    assert choose((A, B), (B,), None) == B
    assert choose((A, B), (A, B), B.hex()) == B
    for registered in ((), (A, B)):
        with pytest.raises(ModelAmbiguous, match="2 stored models"):
            choose((A, B), registered, None)
