"""A request and its receipts: the client's order, boundary leaves signed by both neighbours, vouchers, openings."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Annotated

from proto_specs import limits
from proto_specs.codec import U8, U16, U32, U64, Max, encode, record
from proto_specs.ed25519 import SigningKey, is_signature_valid
from proto_specs.hashing import Tag, hash_record, hash_tagged
from proto_specs.merkle import compute_root
from proto_specs.types.common import ZERO_HASH, Balance, Hash32, Payload, PublicKey, Signature
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.sum_tree import StatementPlace


@record
class PathStage:
    """A stage of a path: the worker that computes layers [start, end), and its prices in nmyl per layer and token."""

    worker: PublicKey
    start: U16
    end: U16
    prefill_price: Balance
    decode_price: Balance


@record
class Continuation:
    """What an order goes on from, after a stage of the path before was lost in mid-answer.

    Its prompt is the prompt of `request` and the tokens of the answer so far: the first `answer_start` are the real
    prompt. The stages of `request` are paid for its positions [0, `settled_positions`), whole windows that all of them
    signed; this order does not bill them again. `epoch` counts the orders of one answer: a stage serves no older one.
    """

    request: Hash32
    epoch: U8
    answer_start: U32
    settled_positions: U32


@record
class Order:
    """The whole request, which the client signs. Its hash, the request id, binds chain, model, rules and path.

    It pays from its own slice [slice_start, slice_end) of the session's deposit, which no other order of the session
    touches: so no deposit is promised twice, however many requests run at once. Positions are nmyl, counted from the
    session's first; what a settled request left of its slice comes back at the end, as new positions.
    """

    genesis: Hash32
    session: Hash32
    sequence: U32
    slice_start: Balance
    slice_end: Balance
    model: Hash32
    service_class: U8
    prompt_hash: Hash32
    prompt_tokens: U32
    tokens_max: U32
    sampling: SamplingParams
    path: Annotated[tuple[PathStage, ...], Max(limits.STAGES_MAX)]
    continuation: Continuation | None = None

    @property
    def epoch(self) -> int:
        """0, and one more with each continuation."""
        return 0 if self.continuation is None else self.continuation.epoch

    @property
    def answer_start(self) -> int:
        """Tokens of the prompt proper; those of the answer follow."""
        return self.prompt_tokens if self.continuation is None else self.continuation.answer_start

    @property
    def needs_prompt(self) -> bool:
        """Whether the last stage gets the prompt's tokens: its rules read them, or they hold the answer so far."""
        return self.continuation is not None or self.sampling.reads_prompt

    @property
    def settled_positions(self) -> int:
        """Leading positions that an order before is paid for."""
        return 0 if self.continuation is None else self.continuation.settled_positions


@record
class SignedOrder:
    """An order under the session key."""

    order: Order
    signature: Signature


@record
class Leaf:
    """The activation checksum of a window at a boundary, committed before any party knows which windows are drawn.

    `payload_hash` covers the exact wire bytes. `trace_hash` covers the sender's private trace: at the last boundary the
    final hidden states behind the sampled tokens, elsewhere zero. `previous` is the same boundary's leaf before.
    """

    request: Hash32
    boundary: U8
    window: U16
    start: U32
    count: U8
    width: U32
    dtype: U8
    payload_hash: Hash32
    trace_hash: Hash32
    previous: Hash32


@record
class SignedLeaf:
    """A leaf with the sender's signature (OUTPUT) and the receiver's (INPUT)."""

    leaf: Leaf
    output_signature: Signature
    input_signature: Signature


@record
class Voucher:
    """The client's cumulative promise to pay `tokens` received tokens, whose rolling hash is `tokens_hash`."""

    request: Hash32
    tokens: U32
    tokens_hash: Hash32
    final: bool


@record
class SignedVoucher:
    """A voucher under the session key."""

    voucher: Voucher
    signature: Signature


@record
class StageRoots:
    """The commitment of stage `stage`: the roots over its input leaves and over its output leaves of all windows."""

    request: Hash32
    stage: U8
    windows: U16
    positions: U32
    input_root: Hash32
    output_root: Hash32


@record
class SignedStageRoots:
    """Stage roots under the stage's worker key: only the stage itself can commit to leaves."""

    roots: StageRoots
    signature: Signature


@record
class OpeningRequest:
    """A verifier asks the challenged worker for everything needed to recompute a window.

    Of a statement, whose id stands for the request's, it names the `point` that the beacon drew, and window 0.
    """

    request: Hash32
    stage: U8
    window: U16
    point: U64 | None = None


@record
class Opening:
    """Input of positions 0..end of the window with its signed leaves, and the output of the window.

    The `*_hashes` are the leaf hashes of ALL windows of the boundary, so that a reader rebuilds the committed root.
    The last stage adds what its rules read: the tokens drawn in the windows before with their leaves, the prompt if
    they read it, and the grammar. Elsewhere these are empty. `place` says which request of a statement this is.
    """

    order: SignedOrder
    input_hashes: Annotated[tuple[Hash32, ...], Max(limits.WINDOWS_MAX)]
    input_leaves: Annotated[tuple[SignedLeaf, ...], Max(limits.WINDOWS_MAX)]
    input_payloads: Annotated[tuple[Payload, ...], Max(limits.WINDOWS_MAX)]
    output_hashes: Annotated[tuple[Hash32, ...], Max(limits.WINDOWS_MAX)]
    output_leaf: SignedLeaf
    output_payload: Payload
    trace_payload: Payload
    drawn_leaves: Annotated[tuple[Leaf, ...], Max(limits.WINDOWS_MAX)]
    drawn_payloads: Annotated[tuple[Payload, ...], Max(limits.WINDOWS_MAX)]
    prompt: Payload
    grammar: Annotated[bytes, Max(limits.GRAMMAR_BYTES_MAX)]
    place: StatementPlace | None = None


def compute_request_id(order: Order) -> bytes:
    """The 32-byte id of a request."""
    return hash_record(Tag.ORDER, order)


def compute_session_id(client: bytes, nonce: int) -> bytes:
    """The id of the session that `client` opens in its transaction number `nonce`; known before it is on chain."""
    return hash_tagged(Tag.SESSION, client + nonce.to_bytes(8, "big"))


def compute_commitment_root(stage_roots: Sequence[StageRoots]) -> bytes:
    """The root that commits a settled request: Merkle over every stage's encoded roots, in path order."""
    return compute_root([encode(one) for one in stage_roots])


def pack_tokens(tokens: Sequence[int]) -> bytes:
    """Token ids as they cross a boundary: uint32, little-endian."""
    return struct.pack(f"<{len(tokens)}I", *tokens)


def read_tokens(payload: bytes) -> tuple[int, ...]:
    """The ids that `pack_tokens` wrote. Raises ValueError when these are not whole numbers of 4 bytes."""
    if len(payload) % 4:
        raise ValueError("token ids are whole numbers of 4 bytes")
    return struct.unpack(f"<{len(payload) // 4}I", payload)


def compute_prompt_hash(tokens: bytes) -> bytes:
    """Hash of the prompt's token ids (uint32 little-endian)."""
    return hash_tagged(Tag.PROMPT, tokens)


def compute_payload_hash(payload: bytes) -> bytes:
    """The activation checksum: hash of exact wire bytes."""
    return hash_tagged(Tag.PAYLOAD, payload)


def compute_leaf_hash(leaf: Leaf) -> bytes:
    """The 32-byte hash that both neighbours sign."""
    return hash_record(Tag.LEAF, leaf)


def compute_tokens_hash(previous: bytes, token: int) -> bytes:
    """A step of the rolling hash over generated tokens; it starts from 32 zero bytes."""
    return hash_tagged(Tag.TOKENS, previous + token.to_bytes(4, "little"))


def compute_stage_price(stage: PathStage, prompt_tokens: int, generated_tokens: int) -> int:
    """Gross price of a stage in nmyl: layers x (prompt x prefill price + generated x decode price)."""
    layers = stage.end - stage.start
    return layers * (prompt_tokens * stage.prefill_price + generated_tokens * stage.decode_price)


def compute_billed_price(order: Order, stage: PathStage, generated_tokens: int, positions: int) -> int:
    """Gross price of a stage in nmyl for `positions` computed and `generated_tokens` vouched for.

    Prompt positions that the order before settled are not billed again; those that were not computed are not billed.
    """
    prompt = max(0, min(order.prompt_tokens, positions) - order.settled_positions)
    return compute_stage_price(stage, prompt, generated_tokens)


def compute_price_max(order: Order) -> int:
    """The most that the whole path may cost, in nmyl."""
    return sum(compute_billed_price(order, one, order.tokens_max, order.prompt_tokens) for one in order.path)


def compute_settled_price(order: Order, generated_tokens: int, positions: int) -> int:
    """What the whole path costs for so many tokens and positions, in nmyl."""
    return sum(compute_billed_price(order, one, generated_tokens, positions) for one in order.path)


def compute_vouched_tokens(order: Order, positions: int) -> int:
    """Tokens drawn from the first `positions` positions: what a voucher over them promises."""
    return max(0, positions - order.prompt_tokens + 1)


def compute_positions(prompt_tokens: int, generated_tokens: int) -> int:
    """Positions computed: the last generated token is never fed back."""
    return prompt_tokens + max(generated_tokens, 1) - 1


def compute_windows(positions: int) -> int:
    """Windows of up to 32 positions that cover `positions`."""
    return -(-positions // limits.WINDOW_POSITIONS)


def sign_output(leaf: Leaf, key: SigningKey) -> bytes:
    """The sender's signature: it confirms the bytes that were sent."""
    return key.sign(Tag.LEAF_OUTPUT_SIGN, compute_leaf_hash(leaf))


def sign_input(leaf: Leaf, key: SigningKey) -> bytes:
    """The receiver's signature: it confirms the bytes that arrived."""
    return key.sign(Tag.LEAF_INPUT_SIGN, compute_leaf_hash(leaf))


def is_output_signed(leaf: Leaf, key: bytes, signature: bytes) -> bool:
    """Whether the sender signed this leaf."""
    return is_signature_valid(key, Tag.LEAF_OUTPUT_SIGN, compute_leaf_hash(leaf), signature)


def is_input_signed(leaf: Leaf, key: bytes, signature: bytes) -> bool:
    """Whether the receiver countersigned this leaf."""
    return is_signature_valid(key, Tag.LEAF_INPUT_SIGN, compute_leaf_hash(leaf), signature)


def sign_order(order: Order, session_key: SigningKey) -> SignedOrder:
    """The order under the session key."""
    return SignedOrder(order, session_key.sign(Tag.ORDER_SIGN, encode(order)))


def is_order_signed(signed: SignedOrder, session_key: bytes) -> bool:
    """Whether the session key signed this order."""
    return is_signature_valid(session_key, Tag.ORDER_SIGN, encode(signed.order), signed.signature)


def sign_voucher(voucher: Voucher, session_key: SigningKey) -> SignedVoucher:
    """The voucher under the session key."""
    return SignedVoucher(voucher, session_key.sign(Tag.VOUCHER_SIGN, encode(voucher)))


def is_voucher_signed(signed: SignedVoucher, session_key: bytes) -> bool:
    """Whether the session key signed this voucher."""
    return is_signature_valid(session_key, Tag.VOUCHER_SIGN, encode(signed.voucher), signed.signature)


def sign_stage_roots(roots: StageRoots, worker_key: SigningKey) -> SignedStageRoots:
    """The roots under the worker key."""
    return SignedStageRoots(roots, worker_key.sign(Tag.STAGE_ROOTS_SIGN, encode(roots)))


def is_stage_roots_signed(signed: SignedStageRoots, worker_key: bytes) -> bool:
    """Whether the worker signed these roots."""
    return is_signature_valid(worker_key, Tag.STAGE_ROOTS_SIGN, encode(signed.roots), signed.signature)


FIRST_PREVIOUS = ZERO_HASH
"""`previous` of a boundary's first leaf."""
