"""A node's settings, and where it keeps its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from genesis.spec import ChainSpec
from node.store.retention import DEFAULT_RETENTION, Retention
from proto_specs.ed25519 import SigningKey
from proto_specs.errors import MyelinError

SNAPSHOT_INTERVAL_DEFAULT = 1_000
"""Blocks between two snapshots; 0 makes none."""


class NodeRefused(MyelinError):
    """The node cannot run as configured. The message says what to change."""


@dataclass(frozen=True)
class NodePaths:
    """The paths of a node's files under its base directory."""

    base: Path

    @property
    def spec(self) -> Path:
        """The chain spec."""
        return self.base / "chain.json"

    @property
    def database(self) -> Path:
        """LevelDB."""
        return self.base / "db"

    @property
    def wal(self) -> Path:
        """The consensus write-ahead log."""
        return self.base / "consensus.wal"

    @property
    def signer(self) -> Path:
        """The signer's history."""
        return self.base / "signer.json"

    @property
    def snapshots(self) -> Path:
        """The snapshots that are offered to peers."""
        return self.base / "snapshots"

    @property
    def peers(self) -> Path:
        """The address book."""
        return self.base / "peers.json"

    @property
    def socket(self) -> Path:
        """The local API."""
        return self.base / "node.sock"

    @property
    def keys(self) -> Path:
        """Key files."""
        return self.base / "keys"

    @property
    def verdicts(self) -> Path:
        """The verifier's verdicts."""
        return self.base / "verdicts"


@dataclass(frozen=True)
class ValidatorKeys:
    """A validator's consensus key and its operator's account key (the verifier signs with the latter).

    The socket of a signer process may replace the consensus key.
    """

    consensus: SigningKey | Path
    account: SigningKey


@dataclass(frozen=True)
class NodeConfig:
    """A node's settings. `models` is the shard store the verifier works from, computing on `device`; None: no duty.

    `snapshot_interval` is in blocks; 0 makes none. `discover`: ask peers for peers, and answer them; `mdns`: find peers
    on the local network; `relays`: relays through which this node is reachable; `relay_for`: how many peers it relays.
    `by_snapshot`: a node without a database joins by a snapshot, verified from `trusted_block`, or else from genesis,
    by two peers at least, or by one if `trust_one_source`.
    """

    paths: NodePaths
    spec: ChainSpec
    validator: ValidatorKeys | None
    node_seed: bytes
    verifier_node_seed: bytes
    rpc_host: str
    rpc_port: int
    rpc_calls_per_s: int
    listen: tuple[str, ...]
    peers: tuple[str, ...]
    models: Path | None
    device: str = "cpu"
    retention: Retention = DEFAULT_RETENTION
    snapshot_interval: int = SNAPSHOT_INTERVAL_DEFAULT
    discover: bool = True
    mdns: bool = False
    relays: tuple[str, ...] = ()
    relay_for: int = 0
    by_snapshot: bool = False
    trusted_block: tuple[int, bytes] | None = None
    trust_one_source: bool = False
