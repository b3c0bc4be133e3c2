"""What the settlement of a statement tells."""

from __future__ import annotations

from proto_specs.codec import U32, U64, variant
from proto_specs.types.common import AccountId, Balance, Hash32


@variant(0x0428)
class StatementSettled:
    """`requests` requests are committed under the `root` of their sum tree; the draw is in block `draw_height`.

    `prompt_tokens` are those billed, `positions` the sum in which the beacon draws a point.
    """

    statement: Hash32
    session: Hash32
    model: Hash32
    client: AccountId
    settler: AccountId
    requests: U32
    prompt_tokens: U64
    tokens: U64
    positions: U64
    price: Balance
    root: Hash32
    draw_height: U64
