"""Rotary frequencies and their scalings: linear, llama3 and yarn, as `transformers` computes them, in fp64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inference.errors import ModelFormatError

Frequencies = NDArray[np.float64]


@dataclass(frozen=True)
class Rotary:
    """Rotary embedding of one kind of layer: angle = position x frequency; cos and sin are multiplied by `factor`."""

    frequencies: Frequencies  # [dims / 2]
    factor: float = 1.0


@dataclass(frozen=True)
class RopeScaling:
    """How frequencies are stretched. Text in a manifest: the kind, then its numbers in the order of its fields."""

    kind: str
    numbers: tuple[float, ...]

    @property
    def attention_factor(self) -> float:
        """What cos and sin are multiplied with."""
        if self.kind != "yarn":
            return 1.0
        factor, *_, mscale, mscale_all = self.numbers
        if mscale and mscale_all:
            return compute_yarn_mscale(factor, mscale) / compute_yarn_mscale(factor, mscale_all)
        return compute_yarn_mscale(factor, 1.0)

    def to_text(self) -> str:
        """One setting of a manifest."""
        return " ".join([self.kind, *(f"{one:.9g}" for one in self.numbers)])

    @staticmethod
    def from_text(text: str) -> RopeScaling | None:
        """The scaling of such a text, None for the empty one. Raises ModelFormatError for another."""
        if not text:
            return None
        kind, *numbers = text.split(" ")
        try:
            made = RopeScaling(kind, tuple(map(float, numbers)))
        except ValueError as error:
            raise ModelFormatError(f"rotary scaling {text!r} is not numbers: import the model again") from error
        if _NUMBERS.get(kind) != len(numbers) or not all(map(math.isfinite, made.numbers)):
            raise ModelFormatError(f"rotary scaling {text!r} is unknown: known are {', '.join(_NUMBERS)}")
        return made


_NUMBERS = {"linear": 1, "llama3": 4, "yarn": 6}
"""linear: factor. llama3: factor, low and high frequency factor, original context. yarn: factor, beta fast, beta slow,
original context, mscale, mscale of all dimensions (0: not given)."""


def make_rotary(theta: float, dims: int, scaling: RopeScaling | None) -> Rotary:
    """The rotary embedding of `dims` dimensions with base `theta`."""
    exponents = np.arange(0, dims, 2, dtype=np.float64) / dims
    plain = theta**-exponents
    if scaling is None:
        return Rotary(plain)
    if scaling.kind == "linear":
        return Rotary(plain / scaling.numbers[0])
    if scaling.kind == "llama3":
        return Rotary(_scale_llama3(plain, *scaling.numbers))
    return Rotary(_scale_yarn(plain, theta, dims, *scaling.numbers[:4]), scaling.attention_factor)


def compute_yarn_mscale(factor: float, mscale: float) -> float:
    """Yarn's attention temperature for a stretch of `factor`."""
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def _scale_llama3(plain: Frequencies, factor: float, low: float, high: float, original: float) -> Frequencies:
    """Long waves are stretched, short ones kept, those between blended: transformers' `llama3` rope type."""
    wavelength = 2 * math.pi / plain
    smooth = (original / wavelength - low) / (high - low)
    blended = (1 - smooth) * plain / factor + smooth * plain
    scaled = np.where(wavelength > original / low, plain / factor, plain)
    between = (wavelength >= original / high) & (wavelength <= original / low)
    return np.where(between, blended, scaled)


def _scale_yarn(
    plain: Frequencies, theta: float, dims: int, factor: float, beta_fast: float, beta_slow: float, original: float
) -> Frequencies:
    """Long waves are stretched, short ones kept, with a ramp between: transformers' `yarn` rope type."""

    def find_dimension(rotations: float) -> float:
        return dims * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low = max(math.floor(find_dimension(beta_fast)), 0)
    high = min(math.ceil(find_dimension(beta_slow)), dims - 1)
    ramp = np.clip((np.arange(dims // 2, dtype=np.float64) - low) / max(high - low, 0.001), 0, 1)
    return plain / factor * ramp + plain * (1 - ramp)


def compute_tables(rotaries: Mapping[str, Rotary], positions: int) -> dict[str, NDArray[np.float32]]:
    """cos.NAME and sin.NAME of position x frequency, [positions, dims / 2]; in fp64, rounded once to fp32."""
    tables: dict[str, NDArray[np.float32]] = {}
    for name, rotary in rotaries.items():
        angle = np.arange(positions, dtype=np.float64)[:, None] * rotary.frequencies
        tables[f"cos.{name}"] = (np.cos(angle) * rotary.factor).astype(np.float32)
        tables[f"sin.{name}"] = (np.sin(angle) * rotary.factor).astype(np.float32)
    return tables
