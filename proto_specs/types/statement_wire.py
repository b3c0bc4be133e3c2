"""Messages of `/myelin/statement/1`: a client asks the stages of a path to sign a statement over what they served."""

from __future__ import annotations

import enum
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, Max, record, variant
from proto_specs.types.common import Hash32, Signature
from proto_specs.types.statement import Statement
from proto_specs.types.sum_tree import RequestLeaf

STATEMENT_PROTOCOL = "/myelin/statement/1"


class StatementRefusal(enum.IntEnum):
    """Why a stage does not sign."""

    GARBLED = 1
    """The totals are not those of the leaves, or the client did not sign them."""
    NOT_MINE = 2
    """Another chain, another session key, or a path without this worker."""
    NO_SESSION = 3
    """The chain shows no such session, or it settles nothing more."""
    UNKNOWN_REQUEST = 4
    """A request whose windows this stage does not keep."""
    DIFFERS = 5
    """A request of which this stage has signed something else than its leaf says."""
    SETTLED = 6
    """A request that the chain shows settled."""
    SIGNED_BEFORE = 7
    """A request in too many statements that were signed and may still be settled."""
    TOO_DEAR = 8
    """More nmyl at once than the stage's bond covers."""
    BUSY = 9
    """The stage cannot look it up now: its node or its disk does not answer, or it serves others."""


@record
class StatementProposal:
    """Client -> a stage of the path. `leaves` are those of the statement's tree, in order of their sequence numbers."""

    statement: Statement
    client_signature: Signature
    leaves: Annotated[tuple[RequestLeaf, ...], Max(limits.STATEMENT_REQUESTS_MAX)]


@variant(1)
class StatementSignature:
    """Stage -> client: the worker key's signature. The stage keeps the leaves, and opens any point of them."""

    statement: Hash32
    signature: Signature


@variant(2)
class StatementRefused:
    """Stage -> client: no signature. Without `requests`, the first of those to blame, it might have signed the rest."""

    code: U8
    message: Annotated[str, Max(limits.FAILURE_TEXT_BYTES_MAX)]
    requests: Annotated[tuple[Hash32, ...], Max(limits.STATEMENT_BLAMED_MAX)] = ()


StatementAnswer = StatementSignature | StatementRefused
