"""Hidden states as exact wire bytes and back: fp32, fp16 or bf16, little-endian, row-major, nothing around them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from inference.errors import WireDtypeError
from proto_specs.types.manifest import TOKEN_BYTES, WireDtype


def encode_rows(rows: NDArray[np.float32], dtype: WireDtype) -> bytes:
    """Bytes of [n,C] fp32 rows, rounded to nearest even where the dtype is narrower.

    Raises WireDtypeError when a value is NaN, infinite, or becomes so (fp16 ends at 65504).
    """
    if rows.ndim != 2:
        raise WireDtypeError(f"hidden states are [n,C], not {list(rows.shape)}")
    if not np.isfinite(rows).all():
        raise WireDtypeError("hidden states hold NaN or infinity: nothing was sent")
    if dtype is WireDtype.FP32:
        return rows.astype("<f4").tobytes()
    if dtype is WireDtype.FP16:
        with np.errstate(over="ignore"):
            narrow = rows.astype("<f2")
        if not np.isfinite(narrow).all():
            raise WireDtypeError("a hidden state exceeds fp16: this model needs wire dtype bf16 or fp32")
        return narrow.tobytes()
    if dtype is WireDtype.BF16:
        bits = rows.astype("<f4").view("<u4").astype(np.uint64)
        rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        if (rounded & 0x7F80 == 0x7F80).any():
            raise WireDtypeError("a hidden state exceeds bf16: this model needs wire dtype fp32")
        return rounded.astype("<u2").tobytes()
    raise WireDtypeError(f"hidden states cannot be sent as {dtype.name}")


def decode_rows(data: bytes, dtype: WireDtype, width: int) -> NDArray[np.float32]:
    """[n,width] fp32 rows (n >= 1). Raises WireDtypeError for a partial row, no row, NaN or infinity."""
    if dtype is WireDtype.TOKEN:
        raise WireDtypeError("token ids are not hidden states")
    _check_length(data, dtype.item_bytes * width)
    if dtype is WireDtype.FP32:
        values = np.frombuffer(data, dtype="<f4").astype(np.float32)
    elif dtype is WireDtype.FP16:
        values = np.frombuffer(data, dtype="<f2").astype(np.float32)
    else:
        values = (np.frombuffer(data, dtype="<u2").astype(np.uint32) << 16).view(np.float32)
    if not np.isfinite(values).all():
        raise WireDtypeError("hidden states hold NaN or infinity: the sender is at fault")
    return values.reshape(-1, width)


def decode_tokens(data: bytes, vocab: int) -> NDArray[np.uint32]:
    """[n] token ids (n >= 1). Raises WireDtypeError for a partial id, none, or one outside the vocabulary."""
    _check_length(data, TOKEN_BYTES)
    tokens = np.frombuffer(data, dtype="<u4").astype(np.uint32)
    if int(tokens.max()) >= vocab:
        raise WireDtypeError(f"token {int(tokens.max())} is outside the vocabulary of {vocab}")
    return tokens


def _check_length(data: bytes, row_bytes: int) -> None:
    if not data or len(data) % row_bytes:
        raise WireDtypeError(f"{len(data)} bytes are not whole rows of {row_bytes}")
