"""The error tree of models and shards. Every message says what was found and what to do."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class ModelError(MyelinError):
    """Anything the model half refuses. Never raised for a bug of ours."""


class ModelFormatError(ModelError):
    """A checkpoint is not of a kind we can read exactly: unknown architecture, missing tensor, truncated file."""


class FetchError(ModelError):
    """The sample model could not be downloaded, or what arrived is not it."""


class StoreError(ModelError):
    """A model or unit is not in the shard store, or its bytes do not hash to the manifest's root."""


class TokenizerError(ModelError):
    """Text, messages or token ids the tokenizer cannot accept."""


class SamplingError(ModelError):
    """Logits or parameters no token can be drawn from (NaN, infinite, empty, out of range)."""


class FingerprintError(ModelError):
    """Rows that have no distance: wrong shape, NaN, infinite, or a delta that is zero throughout."""


class WireDtypeError(ModelError):
    """Wire bytes that are not rows of the stated dtype and width, or rows that dtype cannot carry."""


class EngineError(ModelError):
    """A stage was asked for something it cannot compute: unknown request, wrong position, wrong input."""


class KvExhaustedError(EngineError):
    """KV memory is fully reserved. `requested` and `free` are token positions; try later or elsewhere."""

    def __init__(self, requested: int, free: int) -> None:
        super().__init__(f"{requested} positions of KV memory asked, {free} free: wait for a request to end")
        self.requested = requested
        self.free = free
