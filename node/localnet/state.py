"""The state file of a localnet: its plan, its processes, its groups. Reading gives typed values or fails.

The file decides which processes are killed, so nothing in it is guessed.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from node.localnet.errors import LocalnetError
from node.localnet.groups import Groups
from node.localnet.plan import LocalnetPlan
from node.machine.files import write_synced
from node.machine.processes import Identity

FILE_NAME = "localnet.json"
VERSION = 2
FILE_BYTES_MAX = 4 << 20


class Phase(enum.Enum):
    """In its first start (half of it may be missing), up, or stopped with its directories kept."""

    STARTING = "starting"
    UP = "up"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process of the net: its identity, and its start (Unix time)."""

    identity: Identity
    started_ms: int


@dataclass(frozen=True, slots=True)
class LocalnetState:
    """Everything that the next command has to know."""

    plan: LocalnetPlan
    phase: Phase
    processes: dict[str, ProcessRecord] = field(default_factory=dict)
    groups: Groups = ()


def save_state(base: Path, state: LocalnetState) -> None:
    """Replace the whole file."""
    record = {"version": VERSION, **_show(state)}
    write_synced(base / FILE_NAME, json.dumps(record, indent=1).encode() + b"\n")


def load_state(base: Path) -> LocalnetState | None:
    """The state in the file; None without a file. Raises LocalnetError when it is no state file."""
    path = base / FILE_NAME
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    try:
        record = json.loads(data)
        if not isinstance(record, dict) or record.pop("version", None) != VERSION:
            raise TypeError(f"version {VERSION} is expected")
        found: LocalnetState = _parse(LocalnetState, record)
        return found
    except (ValueError, TypeError, RecursionError) as error:
        raise LocalnetError(
            f"{path} is damaged or of another release ({error}): end the net's processes by hand and remove {base}"
        ) from error


def _show(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: _show(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple):
        return [_show(one) for one in value]
    if isinstance(value, dict):
        return {name: _show(one) for name, one in value.items()}
    return value


def _parse(kind: Any, value: Any) -> Any:
    """A value of exactly this type. Raises TypeError or ValueError."""
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        if not isinstance(value, dict) or set(value) != set(hints):
            raise TypeError(f"{getattr(kind, '__name__', kind)} has other fields")
        return typing.cast(Any, kind)(**{name: _parse(hint, value[name]) for name, hint in hints.items()})
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind(value)
    origin = typing.get_origin(kind)
    if origin is tuple and isinstance(value, list):
        return tuple(_parse(typing.get_args(kind)[0], one) for one in value)
    if origin is dict and isinstance(value, dict):
        return {str(name): _parse(typing.get_args(kind)[1], one) for name, one in value.items()}
    if isinstance(origin or kind, type) and not isinstance(kind, types.GenericAlias) and type(value) is kind:
        return value
    raise TypeError(f"{value!r:.40} is no {kind}")
