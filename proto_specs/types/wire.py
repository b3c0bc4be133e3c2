"""Frames of the libp2p protocols: between client and stages, and between neighbouring stages."""

from __future__ import annotations

import enum
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Max, record, variant
from proto_specs.types.calls import Settle
from proto_specs.types.common import Hash32, Payload, Signature
from proto_specs.types.request import Leaf, SignedOrder, SignedStageRoots, SignedVoucher
from proto_specs.types.sampling import TokenLogprob

REQUEST_PROTOCOL = "/myelin/request/1"
STAGE_PROTOCOL = "/myelin/stage/1"
OPENING_PROTOCOL = "/myelin/opening/1"
STATUS_PROTOCOL = "/myelin/status/1"


class FailureCode(enum.IntEnum):
    """Why a stage refuses a request or gives it up."""

    BAD_ORDER = 1
    UNKNOWN_MODEL = 2
    NOT_MY_STAGE = 3
    NO_ESCROW = 4
    PRICE_TOO_LOW = 5
    NO_CAPACITY = 6
    BAD_INPUT = 7
    NEIGHBOUR_LOST = 8
    UNVOUCHED = 9
    CANCELLED = 10
    INTERNAL = 11
    LEAVING = 12
    MOVED = 13
    """Client -> stage: another order goes on from this one. Hold what it needs for a while."""


class FinishReason(enum.IntEnum):
    """Why a generation ended. NONE: it has not ended."""

    NONE = 0
    STOP = 1
    LENGTH = 2


@variant(1)
class OpenRequest:
    """Client -> every stage of the path: take part in this request.

    The last stage gets what the order names by hash and its rules read: the prompt's token ids (uint32, little-endian)
    when a rule reads them, and the grammar's text. Both are empty for every other stage. A continuation brings the
    settlement of the positions that it does not bill, for every stage to check and for a survivor to submit.

    `batched`: the client will settle it with others in a statement. A last stage that waits for that sends the final
    roots to the client; one that does not settles the request by itself, as without the wish.
    """

    order: SignedOrder
    prompt: Payload = b""
    grammar: Annotated[bytes, Max(limits.GRAMMAR_BYTES_MAX)] = b""
    settled: Settle | None = None
    batched: bool = False


@variant(2)
class Accepted:
    """Stage -> client: KV memory is reserved and the neighbour downstream is reached."""

    request: Hash32


@variant(3)
class Failed:
    """Any side: the sender cannot serve the request (any longer). `lost`: because it lost this stage of the path."""

    request: Hash32
    code: U8
    message: Annotated[str, Max(limits.FAILURE_TEXT_BYTES_MAX)]
    lost: U8 | None = None


@variant(4)
class Rows:
    """Sender -> receiver over boundary `boundary`: `count` positions from `start`, token ids or hidden states.

    `draft`: token ids that the last rows are drafted from, one each; these rows stand as far as the last stage draws
    the same tokens.
    """

    request: Hash32
    boundary: U8
    start: U32
    count: U8
    payload: Payload
    draft: Annotated[tuple[U32, ...], Max(limits.DRAFT_TOKENS_MAX)] = ()


@variant(5)
class OutputLeaf:
    """Sender -> receiver: the window is complete; this is its signed checksum."""

    leaf: Leaf
    signature: Signature


@variant(6)
class Countersign:
    """Receiver -> sender: the same checksum, of the bytes that arrived."""

    request: Hash32
    boundary: U8
    window: U16
    signature: Signature


@variant(7)
class Token:
    """Last stage -> client, and -> first stage: generated token number `index` (0-based).

    `logprobs` is for the client that ordered them: the token's own, then the likeliest in descending order.
    """

    request: Hash32
    index: U32
    token: U32
    finish: U8
    logprobs: Annotated[tuple[TokenLogprob, ...], Max(limits.LOGPROBS_MAX)] = ()


@variant(8)
class VoucherFrame:
    """Client -> last stage, and last -> first stage: the client's promise."""

    voucher: SignedVoucher


@variant(9)
class RootsFrame:
    """Stage -> next stage: the roots signed by all stages up to this one; last stage -> client of a batched request."""

    roots: Annotated[tuple[SignedStageRoots, ...], Max(limits.STAGES_MAX)]


@variant(10)
class Settled:
    """Last stage -> client: the settlement transaction is on its way."""

    request: Hash32
    extrinsic: Hash32


@variant(11)
class PromptLogprobs:
    """Last stage -> client: for each position from `start` on, of the prompt's NEXT token and of the likeliest."""

    request: Hash32
    start: U32
    rows: Annotated[
        tuple[Annotated[tuple[TokenLogprob, ...], Max(limits.LOGPROBS_MAX)], ...], Max(limits.WINDOW_POSITIONS)
    ]


@variant(12)
class PrefixRoots:
    """Stage -> next stage, and last stage -> client, while the request runs: the roots over its first whole windows.

    Signed by all stages up to the sender. With the client's voucher they settle what all have signed so far, whoever is
    lost later.
    """

    roots: Annotated[tuple[SignedStageRoots, ...], Max(limits.STAGES_MAX)]


@variant(13)
class Ping:
    """Client -> any stage: is it there, and how far is the request?"""

    request: Hash32
    nonce: U32


@variant(14)
class Pong:
    """Stage -> client, at once: positions received and computed, and the passes of its engine since it started.

    `pass_ms` is how long the longest of its latest passes took.
    """

    request: Hash32
    nonce: U32
    received: U32
    computed: U32
    steps: U64
    pass_ms: U32


@variant(20)
class PromiseFrame:
    """Client -> every stage but the last, which gets a `VoucherFrame`: the client's promise, window by window."""

    voucher: SignedVoucher


Frame = (
    OpenRequest
    | Accepted
    | Failed
    | Rows
    | OutputLeaf
    | Countersign
    | Token
    | VoucherFrame
    | PromiseFrame
    | RootsFrame
    | Settled
    | PromptLogprobs
    | PrefixRoots
    | Ping
    | Pong
)


@record
class Status:
    """A node's report of itself to peers."""

    genesis: Hash32
    height: U64
    block_hash: Hash32
