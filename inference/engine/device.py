"""Which processor computes a shard: `cpu`, `cuda`, or `cuda:N`. Knows no runtime."""

from __future__ import annotations

import re
from dataclasses import dataclass

from inference.errors import DeviceError
from inference.model.graph.provider import Provider

_TEXT = re.compile(r"(cpu)|cuda(?::(0|[1-9][0-9]{0,2}))?")


@dataclass(frozen=True)
class Device:
    """A kind of processor, and which of its kind."""

    provider: Provider
    number: int = 0

    @staticmethod
    def parse(text: str) -> Device:
        """The device of such a text. Raises DeviceError for another."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise DeviceError(f"there is no device {text[:40]!r}: write cpu, cuda, or cuda:N for GPU N")
        return CPU if found[1] else Device(Provider.CUDA, int(found[2] or 0))

    def __str__(self) -> str:
        return self.provider.value if self.provider is Provider.CPU else f"{self.provider.value}:{self.number}"


CPU = Device(Provider.CPU)
