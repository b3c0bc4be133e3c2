"""`--memory`: a size as people write it, `4GiB` or `500MB`, and what it is when it is not given."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from inference.engine.device import CPU, Device
from inference.footprint import measure_model
from node.cli.errors import CliError
from node.machine.available import read_available_bytes
from node.worker.placing import compute_memory
from proto_specs.types.manifest import Manifest

SHARE_PERMILLE = 750
"""Of the available memory: the rest is for the runtime's own buffers, and for whatever else the machine does."""
SIZE_DIGITS_MAX = 15
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "tb": 10**12}
_UNITS |= {"kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}
_SIZE = re.compile(r"([0-9]+)(?:\.([0-9]{1,3}))? ?([kmgt]?i?b)", re.IGNORECASE)

MemoryOption = Annotated[
    str | None,
    typer.Option(
        "--memory", help="The most for weights and KV memory, such as 4GiB (default: 3/4 of what the machine has free)."
    ),
]


class MemoryInvalid(CliError):
    """The text is no size of memory, or what was asked does not fit into it."""


def parse_size(text: str) -> int:
    """Bytes of a size with its unit. Raises MemoryInvalid."""
    found = _SIZE.fullmatch(text.strip())
    unit = _UNITS.get(found[3].lower()) if found else None
    if found is None or unit is None or len(found[1]) > SIZE_DIGITS_MAX:
        raise MemoryInvalid(f"{text!r:.40} is no size: write a number with MB, MiB, GB or GiB, such as 4GiB")
    part = (found[2] or "").ljust(3, "0")
    size = (int(found[1]) * 1000 + int(part)) * unit // 1000
    if not size:
        raise MemoryInvalid(f"{text!r:.40} is no memory at all: write a size such as 4GiB")
    return size


def read_memory(text: str | None, device: Device) -> int:
    """The bytes of the option; without it a share of what the machine has free. Raises MemoryInvalid."""
    if text is not None:
        return parse_size(text)
    if device != CPU:
        raise MemoryInvalid(f"how much of {device}'s memory may be taken is not known: say --memory, or --layers")
    return read_available_bytes() * SHARE_PERMILLE // 1000


def require_fitting(manifest: Manifest, layers: tuple[int, int], kv_positions: int, memory_bytes: int) -> None:
    """Raises MemoryInvalid when layers do not fit into the memory."""
    start, end = layers
    if end > manifest.architecture.layers:
        return  # another check says so
    needed = compute_memory(measure_model(manifest), start, end, kv_positions)
    if needed > memory_bytes:
        raise MemoryInvalid(
            f"layers {start}:{end} need {needed / 1e6:.0f} MB with their KV memory, --memory allows"
            f" {memory_bytes / 1e6:.0f} MB: raise it, serve fewer, or lower --kv-positions"
        )
