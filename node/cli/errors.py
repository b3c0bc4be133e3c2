"""Which errors are the user's to act on, and the exit status of each. All others are bugs and show a traceback."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterator
from typing import Any

from consensus.runtime.errors import RuntimeRefusal
from genesis.errors import SpecError
from inference.errors import ModelError
from node.cli.progress import clear_progress
from node.client.chain_view import ChainUnreachable
from node.client.errors import CallFailed, RequestLost, RequestRefused, TransactionLost
from node.client.rpc_errors import RpcError
from node.full.settings import NodeRefused
from node.keys.derivation import MnemonicInvalid
from node.keys.keystore import KeystoreError
from node.light.errors import LightStateInvalid, SourceLost
from node.localnet.errors import LocalnetError
from node.p2p.errors import NetworkError
from node.replica.wal import WalDamaged
from node.signer.signer import SignerError
from node.store.database import DatabaseError
from node.store.snapshot_format import SnapshotError
from node.store.views import StateUnavailable
from node.sync.errors import JoinFailed
from node.transfer.shards.errors import FetchFailed
from node.worker.errors import JournalError, WorkerRefused
from proto_specs.errors import ProtocolError

EXIT_OK = 0
EXIT_ERROR = 1
EXIT_USAGE = 2
EXIT_NOT_VERIFIED = 3
"""A stage failed verification, or could not be verified: the client was refunded."""
EXIT_REQUEST_LOST = 4
"""A worker failed in mid-request: the escrow returns."""
EXIT_UNREACHABLE = 5
"""No node answers."""
EXIT_INTERRUPTED = 130


class CliError(Exception):
    """What was asked for on the command line makes no sense, or is not there. The message says what to write."""


class CallRefused(CliError):
    """A transaction is in a block and its fee is paid, but the runtime refused its call. `error` is its reason."""

    def __init__(self, call: str, module: str, error: str, extrinsic: str, height: int, fee: int) -> None:
        super().__init__(f"{error}: module {module} refused {call} {extrinsic} in block {height}; {fee} nmyl were paid")
        self.error = error
        self.details = {"module": module, "call": call, "extrinsic": extrinsic, "height": height, "fee": fee}


_USER_ERRORS = (
    CallFailed,
    CliError,
    DatabaseError,
    FetchFailed,
    RequestRefused,
    JoinFailed,
    KeystoreError,
    LightStateInvalid,
    LocalnetError,
    MnemonicInvalid,
    ModelError,
    NetworkError,
    NodeRefused,
    OSError,
    ProtocolError,
    RpcError,
    RuntimeRefusal,
    SignerError,
    SnapshotError,
    SourceLost,
    SpecError,
    StateUnavailable,
    JournalError,
    TransactionLost,
    WalDamaged,
    WorkerRefused,
)


@contextlib.contextmanager
def exit_on_error(as_json: bool = False) -> Iterator[None]:
    """Turn a user's error, also one out of a nursery, into one line on standard error and its exit status.

    The line is text, or with `as_json` the object of `describe_error`.
    """
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ChainUnreachable, RequestLost, *_USER_ERRORS) as error:
        _exit(error, as_json)
    except BaseExceptionGroup as group:
        leaf = _find_leaf(group)
        if isinstance(leaf, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        if isinstance(leaf, (ChainUnreachable, RequestLost, *_USER_ERRORS)):
            _exit(leaf, as_json)
        raise


def describe_error(error: BaseException) -> dict[str, Any]:
    """`error`: the runtime's, the pool's or the class's name for the reason. Then the text, and what else is known."""
    found: dict[str, Any] = {"error": type(error).__name__, "message": str(error)}
    if isinstance(error, CallRefused):
        return {**found, "error": error.error, **error.details}
    if isinstance(error, RpcError):
        details: dict[str, Any] = error.data if isinstance(error.data, dict) else {}
        known = {name: value for name, value in details.items() if name != "reason"}
        return {**found, "error": details.get("reason", "RpcError"), "code": error.code, **known}
    return found


def _exit(error: BaseException, as_json: bool) -> None:
    clear_progress()
    print(json.dumps(describe_error(error)) if as_json else f"error: {error}", file=sys.stderr)
    if isinstance(error, ChainUnreachable):
        sys.exit(EXIT_UNREACHABLE)
    if isinstance(error, RequestLost):
        sys.exit(EXIT_REQUEST_LOST)
    sys.exit(EXIT_ERROR)


def _find_leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The first exception inside nested groups."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found
