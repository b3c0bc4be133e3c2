"""What the settlement of a statement tells."""

from __future__ import annotations

from proto_specs.codec import U32, U64, variant
from proto_specs.types.common import AccountId, Balance, Hash32


@variant(0x0428)
class StatementSettled:
    """`requests` requests are committed under the `root` of their sum tree; the draw is in block `draw_height`.

    `request` is the id of the statement. The beacon draws one of its billed `prompt_tokens` and `tokens`.
    """

    request: Hash32
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
