"""Which errors are the user's to act on, and the exit status of each. All others are bugs and show a traceback."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from consensus.runtime.errors import RuntimeRefusal
from genesis.errors import SpecError
from inference.errors import InferenceError as ModelError
from node.client.account import CallFailed, TransactionLost
from node.client.inference import InferenceError, RequestLost
from node.demo.processes import ProcessDied
from node.derivation import MnemonicInvalid
from node.keystore import KeystoreError
from node.p2p.errors import NetworkError
from node.rpc.client import RpcError
from node.service import NodeRefused
from node.serving.chain import ChainUnreachable
from node.signer import SignerError
from node.store.database import DatabaseError
from node.wal import WalDamaged
from node.worker.service import WorkerRefused
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


_USER_ERRORS = (
    CallFailed,
    CliError,
    DatabaseError,
    InferenceError,
    KeystoreError,
    MnemonicInvalid,
    ModelError,
    NetworkError,
    NodeRefused,
    OSError,
    ProcessDied,
    ProtocolError,
    RpcError,
    RuntimeRefusal,
    SignerError,
    SpecError,
    TransactionLost,
    WalDamaged,
    WorkerRefused,
)


@contextlib.contextmanager
def exit_on_error() -> Iterator[None]:
    """Turn a user's error, also one out of a nursery, into one line on standard error and its exit status."""
    try:
        yield
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except (ChainUnreachable, RequestLost, *_USER_ERRORS) as error:
        _exit(error)
    except BaseExceptionGroup as group:
        leaf = _find_leaf(group)
        if isinstance(leaf, KeyboardInterrupt):
            sys.exit(EXIT_INTERRUPTED)
        if isinstance(leaf, (ChainUnreachable, RequestLost, *_USER_ERRORS)):
            _exit(leaf)
        raise


def _exit(error: BaseException) -> None:
    print(f"error: {error}", file=sys.stderr)
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
