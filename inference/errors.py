"""The error tree of models and shards. Every message states the finding and the remedy."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class ModelError(MyelinError):
    """Anything the model half refuses. Never raised for a bug of ours."""


class ModelFormatError(ModelError):
    """The checkpoint cannot be read exactly: unknown architecture, missing tensor, truncated file."""


class FetchError(ModelError):
    """The sample model could not be downloaded, or the download is another file."""


class StoreError(ModelError):
    """A model or unit is not in the shard store, or its bytes do not hash to the manifest's root."""


class TokenizerError(ModelError):
    """The tokenizer cannot accept the text, messages or token ids."""


class TextTooLong(TokenizerError):
    """A text has more bytes than any model's context takes."""


class SamplingError(ModelError):
    """No token can be drawn from these logits or parameters (NaN, infinite, empty, out of range)."""


class DecodingError(ModelError):
    """The decoding rules of an order cannot be followed by anybody."""


class GrammarError(DecodingError):
    """The grammar of an order is malformed or too large, or the text cannot go on by it."""


class FingerprintError(ModelError):
    """The rows have no distance: wrong shape, NaN, infinite, or an all-zero delta."""


class WireDtypeError(ModelError):
    """The wire bytes are not rows of the stated dtype and width, or the dtype cannot carry the rows."""


class EngineError(ModelError):
    """A stage cannot compute what was asked: unknown request, wrong position, wrong input."""


class RowsOutOfRange(EngineError):
    """Hidden states are larger than the model was calibrated for. Whoever got them must not sign for them."""


class UnjudgeableError(EngineError):
    """A verifier's own rows are nothing to compare with: no verdict follows, and nobody is at fault."""


class InputsRefusable(UnjudgeableError):
    """The inputs are no rows that a worker may sign for: whoever did has shown nothing that can be judged."""


class GoldenError(EngineError):
    """This machine does not compute a model's layers as the model's golden windows say. It must not serve them."""


class CalibrationError(ModelError):
    """A model cannot be calibrated as asked, or no threshold tells honest work from any cheat."""


class DeviceError(EngineError):
    """The device that was asked for cannot compute here. Never answered by taking another one."""


class DraftModelError(EngineError):
    """A model cannot draft for another one: it is not whole, or cuts text into other tokens."""


class KvExhaustedError(EngineError):
    """KV memory is fully reserved. `requested` and `free` are token positions; try later or elsewhere."""

    def __init__(self, requested: int, free: int) -> None:
        super().__init__(f"{requested} positions of KV memory asked, {free} free: wait for a request to end")
        self.requested = requested
        self.free = free
