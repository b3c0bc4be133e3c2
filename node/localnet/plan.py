"""The plan of a localnet: names, addresses, ports, links. Everything is settled before the first process starts."""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from genesis.dev import DEV_NAMES, build_dev_spec
from genesis.spec import ChainSpec
from node.localnet.errors import LocalnetError

VALIDATORS_MAX = 32
PAYERS_DEFAULT = 200
SOCKET_PATH_MAX = 100
"""Bytes of a unix socket's path; Linux takes 107, others 103."""
LOOPBACK = "127.0.0.1"
NODE_PORT = 30_333
RPC_PORT = 9_944
_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections, so that a killed node finds its port free again."""
_FIRST_NAMES = tuple(name for name in DEV_NAMES if name != "client")


class Partitions(enum.Enum):
    """How nodes are kept apart: not at all, by a proxy between every two, or by network namespaces (Linux, root)."""

    NONE = "none"
    PROXY = "proxy"
    NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class ValidatorPlan:
    """A validator: its address for peers, and its RPC's address from this machine."""

    name: str
    host: str
    port: int
    rpc_host: str
    rpc_port: int

    @property
    def rpc_url(self) -> str:
        """The validator's JSON-RPC address."""
        return f"http://{self.rpc_host}:{self.rpc_port}"


@dataclass(frozen=True, slots=True)
class WorkerPlan:
    """A worker: the layers it serves, and the validator whose RPC it uses.

    `program` takes the options of `worker run`; when empty, `myelin worker run` itself is used.
    """

    name: str
    start: int
    end: int
    validator: str
    program: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Link:
    """The port of the proxy at which `source` reaches `dest`."""

    source: str
    dest: str
    port: int


@dataclass(frozen=True, slots=True)
class LocalnetPlan:
    """A whole net. `worker_host` is where workers listen; `model` is the served model's id in hex, or empty."""

    validators: tuple[ValidatorPlan, ...]
    workers: tuple[WorkerPlan, ...]
    links: tuple[Link, ...]
    partitions: Partitions
    worker_host: str
    model: str
    models: str
    block_interval_ms: int
    genesis_time_ms: int
    delay_ms: int
    payers: int

    @property
    def names(self) -> tuple[str, ...]:
        """The validators' names."""
        return tuple(one.name for one in self.validators)

    def find_validator(self, name: str) -> ValidatorPlan:
        """The validator of a name. Raises LocalnetError."""
        for one in self.validators:
            if one.name == name:
                return one
        raise LocalnetError(f"no validator is called {name}; there are {', '.join(self.names)}")


@dataclass(frozen=True, slots=True)
class Wanted:
    """The user's wishes for a net."""

    validators: int
    workers: int
    block_interval_ms: int
    partitions: Partitions
    delay_ms: int
    payers: int = PAYERS_DEFAULT


def make_plan(
    base: Path, wanted: Wanted, genesis_time_ms: int, model: str = "", models: str = "", layers: int = 0
) -> LocalnetPlan:
    """Settle names, addresses and ports. Raises LocalnetError."""
    names = make_validator_names(wanted.validators)
    if len(str(base / max(names, key=len) / "node.sock").encode()) > SOCKET_PATH_MAX:
        raise LocalnetError(f"{base} is too long for the sockets in it: name a shorter --base")
    if wanted.delay_ms and wanted.partitions is not Partitions.PROXY:
        raise LocalnetError("--delay-ms needs --partitions proxy: the proxy is what delays")
    ports = find_free_ports(base)
    if wanted.partitions is Partitions.NAMESPACES:
        net = compute_subnet(base)
        validators = tuple(
            ValidatorPlan(name, f"10.77.0.{at + 1}", NODE_PORT, f"{net}.{4 * at + 2}", RPC_PORT)
            for at, name in enumerate(names)
        )
        worker_host = f"{net}.254"
    else:
        validators = tuple(ValidatorPlan(one, LOOPBACK, next(ports), LOOPBACK, next(ports)) for one in names)
        worker_host = LOOPBACK
    links: tuple[Link, ...] = ()
    if wanted.partitions is Partitions.PROXY:
        links = tuple(Link(one, other, next(ports)) for one in names for other in names if one != other)
    ends = [layers * (at + 1) // max(1, wanted.workers) for at in range(wanted.workers)]
    workers = tuple(
        WorkerPlan(f"worker-{at + 1}", start, end, names[at % len(names)])
        for at, (start, end) in enumerate(zip([0, *ends], ends, strict=False))
    )
    return LocalnetPlan(
        validators=validators,
        workers=workers,
        links=links,
        partitions=wanted.partitions,
        worker_host=worker_host,
        model=model,
        models=models,
        block_interval_ms=wanted.block_interval_ms,
        genesis_time_ms=genesis_time_ms,
        delay_ms=wanted.delay_ms,
        payers=wanted.payers,
    )


def make_validator_names(count: int) -> tuple[str, ...]:
    """alice, bob, ..., then validator-7 and so on. Raises LocalnetError."""
    if not 1 <= count <= VALIDATORS_MAX:
        raise LocalnetError(f"a localnet has 1 to {VALIDATORS_MAX} validators, not {count}")
    return (*_FIRST_NAMES, *(f"validator-{at}" for at in range(len(_FIRST_NAMES) + 1, count + 1)))[:count]


def make_payer_names(count: int) -> tuple[str, ...]:
    """The names of the accounts that send the load."""
    return tuple(f"payer-{at}" for at in range(count))


def build_spec(plan: LocalnetPlan) -> ChainSpec:
    """The chain that all nodes of the plan share: money for validators, workers, payers and the client.

    No validator is jailed for absence: with a development chain's epochs of ten blocks every fault would cost a
    validator.
    """
    spec = build_dev_spec(
        plan.names,
        block_interval_ms=plan.block_interval_ms,
        genesis_time_ms=plan.genesis_time_ms,
        names=tuple(dict.fromkeys((*DEV_NAMES, *(one.name for one in plan.workers), *make_payer_names(plan.payers)))),
    )
    staking = dataclasses.replace(spec.params.staking, downtime_permille=0)
    return dataclasses.replace(spec, params=dataclasses.replace(spec.params, staking=staking))


def compute_subnet(base: Path) -> str:
    """The first three numbers of the management addresses of the net in this directory."""
    first, second = hashlib.blake2b(str(base).encode(), digest_size=2).digest()
    return f"10.{100 + first % 100}.{second}"


def find_free_ports(base: Path) -> Iterator[int]:
    """Loopback ports without a listener, each once; nets in different directories start at different ports."""
    first = int.from_bytes(hashlib.blake2b(str(base).encode(), digest_size=2).digest(), "big")
    for at in range(len(_PORTS)):
        port = _PORTS[(first + at) % len(_PORTS)]
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        yield port
    raise LocalnetError("there are no free TCP ports from 20000 to 31999")
