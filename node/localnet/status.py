"""The current status of a localnet: processes from the state file and /proc, heights from RPC. Reads only."""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import trio

from node.client.chain_view import ChainUnreachable
from node.client.rpc import open_rpc
from node.client.rpc_errors import RpcError
from node.localnet.errors import LocalnetError
from node.localnet.groups import format_groups
from node.localnet.localnet import list_process_names
from node.localnet.state import LocalnetState, load_state
from node.machine.processes import RunState, get_run_state

ANSWER_TIMEOUT_S = 1.0


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """A process. A validator that answers also has its height, its last block's age and its waiting transactions."""

    name: str
    state: str
    pid: int | None
    started_ms: int | None
    rpc: str | None
    height: int | None = None
    age_ms: int | None = None
    pending: int | None = None


@dataclass(frozen=True, slots=True)
class LocalnetStatus:
    """The status of a whole net."""

    base: str
    phase: str
    partitions: str
    groups: tuple[tuple[str, ...], ...]
    processes: tuple[ProcessStatus, ...]

    def to_json(self) -> dict[str, Any]:
        """The object of `--json`."""
        return asdict(self)

    @property
    def summary(self) -> str:
        """The line above the table."""
        apart = f", kept apart: {format_groups(self.groups)}" if self.groups else ""
        return f"{self.base}: {self.phase}, partitions by {self.partitions}{apart}"


def load_localnet(base: Path) -> LocalnetState:
    """The net of a directory. Raises LocalnetError when there is none."""
    state = load_state(base)
    if state is None:
        raise LocalnetError(f"there is no localnet in {base}: `myelin localnet up` makes one")
    return state


async def read_status(base: Path) -> LocalnetStatus:
    """Ask all processes at once. Raises LocalnetError."""
    state = load_localnet(base)
    found: dict[str, ProcessStatus] = {}

    async def look(name: str) -> None:
        found[name] = await _read_process(state, name)

    names = list_process_names(state.plan)
    async with trio.open_nursery() as nursery:
        for name in names:
            nursery.start_soon(look, name)
    plan = state.plan
    return LocalnetStatus(
        str(base), state.phase.value, plan.partitions.value, state.groups, tuple(found[name] for name in names)
    )


async def _read_process(state: LocalnetState, name: str) -> ProcessStatus:
    record = state.processes.get(name)
    is_gone = record is None or get_run_state(record.identity) is RunState.GONE
    url = state.plan.find_validator(name).rpc_url if name in state.plan.names else None
    if record is None or is_gone:
        return ProcessStatus(name, RunState.GONE.value, None, None, url)
    status = get_run_state(record.identity)
    health = await _ask_health(url) if url is not None and status is RunState.RUNNING else None
    known = (None, None, None) if health is None else (health["height"], health["ageMs"], health["pending"])
    return ProcessStatus(name, status.value, record.identity.pid, record.started_ms, url, *known)


async def _ask_health(url: str) -> dict[str, Any] | None:
    found: dict[str, Any] | None = None
    with trio.move_on_after(ANSWER_TIMEOUT_S), contextlib.suppress(ChainUnreachable, RpcError):
        async with open_rpc(url) as rpc:
            found = await rpc.call("system_health")
    return found
