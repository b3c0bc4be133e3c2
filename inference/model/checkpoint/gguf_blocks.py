"""Unpacks the block-quantised types of GGUF into codes, scales and lowest values, by rows. Knows no file.

The layouts are those of ggml (ggml-common.h, ggml-quants.c) and of its Python reference, `gguf.quants`, with whose
`dequantize` every type here agrees bit by bit (tests). A value of a block is

    scale * (code - zero) + low

with `zero` of the type and no `low` in symmetric types. Scales are products of an fp16 number and a small integer, so
exact in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from gguf.constants import GGMLQuantizationType as Kind
from numpy.typing import NDArray

from inference.model.checkpoint.source import Codes, Values
from proto_specs.types.manifest import Form

Raw = NDArray[np.uint8]
_Parts = tuple[Codes, Values, Values | None]

# The sixteen values of a table, as codes of 8 bits.
_MXFP4_VALUES = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]
_IQ4_VALUES = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
_MXFP4_CODES: Codes = (np.array(_MXFP4_VALUES) + 128).astype(np.uint8)
_IQ4_CODES: Codes = (np.array(_IQ4_VALUES) + 128).astype(np.uint8)
_BY_1 = np.arange(8, dtype=np.uint8)[:, None]
_BY_2 = np.array([0, 2, 4, 6], np.uint8)[:, None]


@dataclass(frozen=True)
class BlockType:
    """A type: the form that holds it exactly, the code of zero, and how its bytes are unpacked.

    `unpack` takes [N, blocks, bytes of a block] and gives codes [N, blocks, values of a block], and scale and low
    [N, blocks, scales of a block].
    """

    form: Form
    zero: int
    unpack: Callable[[Raw], _Parts]


def _unpack_q4_0(raw: Raw) -> _Parts:
    return _split_nibbles(raw[..., 2:]), _take_half(raw, 0), None


def _unpack_q4_1(raw: Raw) -> _Parts:
    return _split_nibbles(raw[..., 4:]), _take_half(raw, 0), _take_half(raw, 2)


def _unpack_q5_0(raw: Raw) -> _Parts:
    codes = _split_nibbles(raw[..., 6:])
    codes |= np.unpackbits(raw[..., 2:6], axis=-1, bitorder="little") << 4
    codes += 128 - 16
    return codes, _take_half(raw, 0), None


def _unpack_q5_1(raw: Raw) -> _Parts:
    codes = _split_nibbles(raw[..., 8:])
    codes |= np.unpackbits(raw[..., 4:8], axis=-1, bitorder="little") << 4
    codes += 128
    return codes, _take_half(raw, 0), _take_half(raw, 2)


def _unpack_q8_0(raw: Raw) -> _Parts:
    return raw[..., 2:] ^ np.uint8(128), _take_half(raw, 0), None


def _unpack_q2_k(raw: Raw) -> _Parts:
    codes = _flatten(_take_bits(_regroup(raw[..., 16:80], 32)[..., None, :], _BY_2, 3))
    codes += 8
    scale = _take_half(raw, 80) * (raw[..., :16] & 15).astype(np.float32)
    return codes, scale, -(_take_half(raw, 82) * (raw[..., :16] >> 4).astype(np.float32))


def _unpack_q3_k(raw: Raw) -> _Parts:
    codes = _flatten(_take_bits(_regroup(raw[..., 32:96], 32)[..., None, :], _BY_2, 3))
    codes |= _flatten(_take_bits(raw[..., None, :32], _BY_1, 1)) << 2
    codes += 8 - 4  # a clear bit is four less
    packed = raw[..., 96:108]
    low_scales = np.concatenate([packed[..., :8] & 15, packed[..., :8] >> 4], -1)
    high_scales = _flatten(_take_bits(packed[..., None, 8:], _BY_2, 3))
    scales = (low_scales | high_scales << 4).astype(np.float32) - 32
    return codes, _take_half(raw, 108) * scales, None


def _unpack_q4_k(raw: Raw) -> _Parts:
    scale, low = _take_k_scales(raw)
    return _flatten(_split_nibbles(_regroup(raw[..., 16:], 32))), scale, low


def _unpack_q5_k(raw: Raw) -> _Parts:
    scale, low = _take_k_scales(raw)
    codes = _flatten(_split_nibbles(_regroup(raw[..., 48:], 32)))
    codes |= _flatten(_take_bits(raw[..., None, 16:48], _BY_1, 1)) << 4
    codes += 128
    return codes, scale, low


def _unpack_q6_k(raw: Raw) -> _Parts:
    codes = _flatten(_split_nibbles(_regroup(raw[..., :128], 64)))
    codes |= _flatten(_take_bits(_regroup(raw[..., 128:192], 32)[..., None, :], _BY_2, 3)) << 4
    codes += 128 - 32
    scales = raw[..., 192:208].view(np.int8).astype(np.float32)
    return codes, _take_half(raw, 208) * scales, None


def _unpack_iq4_nl(raw: Raw) -> _Parts:
    codes: Codes = _IQ4_CODES[_split_nibbles(raw[..., 2:])]
    return codes, _take_half(raw, 0), None


def _unpack_iq4_xs(raw: Raw) -> _Parts:
    codes: Codes = _IQ4_CODES[_flatten(_split_nibbles(_regroup(raw[..., 8:], 16)))]
    low_scales = np.stack([raw[..., 4:8] & np.uint8(15), raw[..., 4:8] >> np.uint8(4)], -1)
    high_scales = _take_bits(raw[..., 2:4, None], _BY_2[:, 0], 3)
    scales = (_flatten(low_scales) | _flatten(high_scales) << 4).astype(np.float32) - 32
    return codes, _take_half(raw, 0) * scales, None


def _unpack_mxfp4(raw: Raw) -> _Parts:
    # The scale is 2^(e-128): half of what the exponent says, as the table's values are doubled.
    scale: Values = np.ldexp(np.float32(1), raw[..., :1].astype(np.int32) - 128)
    codes: Codes = _MXFP4_CODES[_split_nibbles(raw[..., 1:])]
    return codes, scale, None


BLOCK_TYPES: Mapping[Kind, BlockType] = {
    Kind.Q4_0: BlockType(Form.Q4_B32, 8, _unpack_q4_0),
    Kind.Q4_1: BlockType(Form.Q4_B32_MIN, 0, _unpack_q4_1),
    Kind.Q5_0: BlockType(Form.Q8_B32, 128, _unpack_q5_0),
    Kind.Q5_1: BlockType(Form.Q8_B32_MIN, 128, _unpack_q5_1),
    Kind.Q8_0: BlockType(Form.Q8_B32, 128, _unpack_q8_0),
    Kind.Q2_K: BlockType(Form.Q4_B16_MIN, 8, _unpack_q2_k),
    Kind.Q3_K: BlockType(Form.Q4_B16, 8, _unpack_q3_k),
    Kind.Q4_K: BlockType(Form.Q4_B32_MIN, 0, _unpack_q4_k),
    Kind.Q5_K: BlockType(Form.Q8_B32_MIN, 128, _unpack_q5_k),
    Kind.Q6_K: BlockType(Form.Q8_B16, 128, _unpack_q6_k),
    Kind.IQ4_NL: BlockType(Form.Q8_B32, 128, _unpack_iq4_nl),
    Kind.IQ4_XS: BlockType(Form.Q8_B32, 128, _unpack_iq4_xs),
    Kind.MXFP4: BlockType(Form.Q8_B32, 128, _unpack_mxfp4),
}


def _take_half(raw: Raw, start: int) -> Values:
    """The fp16 number at `start` of every block, as fp32 [N, blocks, 1]."""
    return np.ascontiguousarray(raw[..., start : start + 2]).view("<f2").astype(np.float32)


def _take_bits(packed: Raw, shifts: Raw, mask: int) -> Raw:
    bits: Raw = (packed >> shifts) & np.uint8(mask)
    return bits


def _split_nibbles(packed: Raw) -> Codes:
    """[..., n] becomes [..., 2 n]: all low nibbles, then all high ones."""
    size = packed.shape[-1]
    codes = np.empty((*packed.shape[:-1], 2 * size), np.uint8)
    np.bitwise_and(packed, 15, out=codes[..., :size])
    np.right_shift(packed, 4, out=codes[..., size:])
    return codes


def _regroup(packed: Raw, size: int) -> Raw:
    """[N, blocks, bytes] becomes [N, blocks, bytes / size, size]."""
    return packed.reshape(*packed.shape[:2], packed.shape[2] // size, size)


def _flatten(parts: Raw) -> Raw:
    """[N, blocks, ...] becomes [N, blocks, values]."""
    return parts.reshape(*parts.shape[:2], math.prod(parts.shape[2:]))


def _take_k_scales(raw: Raw) -> tuple[Values, Values]:
    """Scale and low of the eight groups of Q4_K and Q5_K: 6-bit factors of d and of -dmin, in twelve bytes."""
    first, second, both = raw[..., 4:8], raw[..., 8:12], raw[..., 12:16]
    scales = np.concatenate([first & 63, (both & 15) | (first >> 2 & 48)], -1).astype(np.float32)
    lows = np.concatenate([second & 63, (both >> 4) | (second >> 2 & 48)], -1).astype(np.float32)
    return _take_half(raw, 0) * scales, -(_take_half(raw, 2) * lows)
