"""Authenticates the opening of a challenged worker: bytes against signed leaves, leaves against the chain's roots.

Pure. An opening that passes was signed by the judged worker. An opening that fails proves nothing against any party,
and the verdict is UNAVAILABLE (DESIGN 5.2: blame only by a signature).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.serving.statements import StatementInvalid, check_leaf, make_stage_roots
from proto_specs.errors import MyelinError
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.merkle import compute_root
from proto_specs.order_rules import make_bounds
from proto_specs.types.manifest import TOKEN_BYTES, Manifest, WireDtype
from proto_specs.types.request import (
    FIRST_PREVIOUS,
    Opening,
    Order,
    SignedLeaf,
    StageRoots,
    compute_leaf_hash,
    compute_payload_hash,
    compute_prompt_hash,
    compute_request_id,
    is_input_signed,
    is_output_signed,
)
from proto_specs.types.sampling import compute_grammar_hash
from proto_specs.types.sum_tree import SumNode, locate


class OpeningError(MyelinError):
    """The opening does not prove what the worker did."""


@dataclass(frozen=True, slots=True)
class AuthenticOpening:
    """Input bytes of positions 0..end, and the window's output, all signed by the judged worker.

    `output` is the window's wire rows; on the last stage it is the final hidden states, and `tokens` are the ids that
    were sampled at positions `sampled_from`, `sampled_from` + 1, ... after those of `drawn`, in the windows before.
    There `prompt` holds the prompt's ids when the rules read them, and `grammar` its text.
    """

    order: Order
    inputs: bytes
    positions: int
    window_start: int
    output: bytes
    tokens: tuple[int, ...]
    sampled_from: int
    drawn: tuple[int, ...] = ()
    prompt: tuple[int, ...] = ()
    grammar: bytes = b""


@dataclass(frozen=True, slots=True)
class CommittedStatement:
    """What the chain keeps of a settled statement. `stages` are (worker, start, end) in path order."""

    genesis: bytes
    session: bytes
    model: bytes
    stages: tuple[tuple[bytes, int, int], ...]
    requests: int
    root: SumNode


def authenticate_statement_opening(
    opening: Opening, committed: CommittedStatement, stage: int, point: int, session_key: bytes, manifest: Manifest
) -> AuthenticOpening:
    """Check an opening for the `point` that was drawn of a statement. Raises OpeningError with the reason.

    Every party of the path signed the statement: a request in it that cannot be judged is the accused's own doing.
    """
    roots, window = find_commitment(opening, committed, stage, point, manifest)
    return authenticate_opening(opening, roots, window, session_key, manifest)


def find_commitment(
    opening: Opening, committed: CommittedStatement, stage: int, point: int, manifest: Manifest
) -> tuple[StageRoots, int]:
    """What the stage committed to for the request that the point falls on, and its window. Raises OpeningError."""
    order, place = opening.order.order, opening.place
    if place is None:
        raise OpeningError("the opening does not say which request of the statement it is of")
    position = locate(place, committed.requests, committed.root, point)
    if position is None:
        raise OpeningError(f"the leaf is not the one under the committed root that covers point {point}")
    path = tuple((one.worker, one.start, one.end) for one in order.path)
    wanted = (committed.genesis, committed.session, committed.model, committed.stages)
    if (order.genesis, order.session, order.model, path) != wanted:
        raise OpeningError("the order is of another chain, session, model or path than the statement")
    try:
        check_leaf(place.leaf, order, make_bounds(manifest))
    except StatementInvalid as error:
        raise OpeningError(str(error)) from error
    return make_stage_roots(place.leaf, stage), position // WINDOW_POSITIONS


def authenticate_opening(
    opening: Opening, roots: StageRoots, window: int, session_key: bytes, manifest: Manifest
) -> AuthenticOpening:
    """Check an opening for `window` against the stage's commitment on chain. Raises OpeningError with the reason.

    The chain cannot count the leaves under a root, so a stage may have committed to fewer leaves than it has windows.
    """
    order = opening.order.order
    if compute_request_id(order) != roots.request:
        raise OpeningError("the order is of another request")
    stage, last = roots.stage, len(order.path) - 1
    keys = [session_key, *(one.worker for one in order.path), session_key]
    if not (len(opening.input_hashes) == len(opening.output_hashes) == roots.windows):
        raise OpeningError(f"{roots.windows} windows were committed to, leaf hashes of other numbers came")
    if compute_root(opening.input_hashes) != roots.input_root:
        raise OpeningError("the input leaves are not those under the committed root")
    if compute_root(opening.output_hashes) != roots.output_root:
        raise OpeningError("the output leaves are not those under the committed root")
    if not len(opening.input_leaves) == len(opening.input_payloads) == window + 1 <= roots.windows:
        raise OpeningError(f"windows 0 to {window} of the input are needed, {len(opening.input_leaves)} came")
    hidden = (manifest.architecture.hidden, WireDtype(manifest.wire_dtype))
    previous = FIRST_PREVIOUS
    for number, (signed, payload) in enumerate(zip(opening.input_leaves, opening.input_payloads, strict=True)):
        if compute_leaf_hash(signed.leaf) != opening.input_hashes[number] or signed.leaf.previous != previous:
            raise OpeningError(f"input leaf {number} is not the one committed")
        _check_slot(signed, roots, stage, number, (1, WireDtype.TOKEN) if stage == 0 else hidden)
        _check_signatures(signed, keys[stage], keys[stage + 1])
        if compute_payload_hash(payload) != signed.leaf.payload_hash:
            raise OpeningError(f"the input bytes of window {number} do not hash to the signed leaf")
        previous = compute_leaf_hash(signed.leaf)
    output = opening.output_leaf
    if compute_leaf_hash(output.leaf) != opening.output_hashes[window]:
        raise OpeningError("the output leaf is not the one committed")
    _check_slot(output, roots, stage + 1, window, (1, WireDtype.TOKEN) if stage == last else hidden)
    _check_signatures(output, keys[stage + 1], keys[stage + 2])
    if compute_payload_hash(opening.output_payload) != output.leaf.payload_hash:
        raise OpeningError("the output bytes do not hash to the signed leaf")
    inputs = b"".join(opening.input_payloads)
    if stage == 0:
        _check_prompt(order, inputs)
    if stage < last:
        return _authentic(opening, inputs, opening.output_payload, ())
    if output.leaf.trace_hash != compute_payload_hash(opening.trace_payload):
        raise OpeningError("the final hidden states do not hash to the signed leaf")
    drawn = _check_drawn(opening, roots, window)
    _check_attached(opening, order)
    opened = _authentic(opening, inputs, opening.trace_payload, _read_tokens(opening.output_payload))
    return replace(opened, drawn=drawn, prompt=_read_tokens(opening.prompt), grammar=opening.grammar)


def _authentic(opening: Opening, inputs: bytes, output: bytes, tokens: tuple[int, ...]) -> AuthenticOpening:
    leaf, order = opening.output_leaf.leaf, opening.order.order
    sampled_from = max(leaf.start, order.prompt_tokens - 1)
    return AuthenticOpening(order, inputs, leaf.start + leaf.count, leaf.start, output, tokens, sampled_from)


def _check_slot(signed: SignedLeaf, roots: StageRoots, boundary: int, window: int, row: tuple[int, int]) -> None:
    leaf = signed.leaf
    count = min(WINDOW_POSITIONS, roots.positions - window * WINDOW_POSITIONS)
    wanted = (roots.request, boundary, window, window * WINDOW_POSITIONS, count, *row)
    if (leaf.request, leaf.boundary, leaf.window, leaf.start, leaf.count, leaf.width, leaf.dtype) != wanted:
        raise OpeningError(f"the leaf of boundary {boundary}, window {window} is for another slot")


def _check_signatures(signed: SignedLeaf, sender: bytes, receiver: bytes) -> None:
    if not is_output_signed(signed.leaf, sender, signed.output_signature):
        raise OpeningError(f"the leaf of boundary {signed.leaf.boundary} is not signed by its sender")
    if not is_input_signed(signed.leaf, receiver, signed.input_signature):
        raise OpeningError(f"the leaf of boundary {signed.leaf.boundary} is not signed by its receiver")


def _check_drawn(opening: Opening, roots: StageRoots, window: int) -> tuple[int, ...]:
    """The tokens of the windows before, under the committed leaves."""
    if not len(opening.drawn_leaves) == len(opening.drawn_payloads) == window:
        raise OpeningError(f"the tokens of windows 0 to {window - 1} are needed, {len(opening.drawn_leaves)} came")
    tokens: list[int] = []
    for number, (leaf, payload) in enumerate(zip(opening.drawn_leaves, opening.drawn_payloads, strict=True)):
        if compute_leaf_hash(leaf) != opening.output_hashes[number] or leaf.window != number:
            raise OpeningError(f"the tokens' leaf of window {number} is not the one committed")
        if compute_payload_hash(payload) != leaf.payload_hash:
            raise OpeningError(f"the tokens of window {number} do not hash to the committed leaf")
        tokens += _read_tokens(payload)
    return tuple(tokens)


def _check_attached(opening: Opening, order: Order) -> None:
    """What the rules read besides tokens: nothing that the order does not name."""
    sampling = order.sampling
    expected = order.prompt_hash if order.needs_prompt else None
    if (compute_prompt_hash(opening.prompt) if opening.prompt else None) != expected:
        raise OpeningError("the prompt that the rules read is not the one the client ordered")
    wanted = sampling.grammar.text_hash if sampling.grammar is not None else None
    if (compute_grammar_hash(opening.grammar) if opening.grammar else None) != wanted:
        raise OpeningError("the grammar is not the one the client ordered")


def _check_prompt(order: Order, inputs: bytes) -> None:
    prompt = inputs[: order.prompt_tokens * TOKEN_BYTES]
    if len(prompt) == order.prompt_tokens * TOKEN_BYTES and compute_prompt_hash(prompt) != order.prompt_hash:
        raise OpeningError("the prompt is not the one the client ordered")


def _read_tokens(payload: bytes) -> tuple[int, ...]:
    if len(payload) % TOKEN_BYTES:
        raise OpeningError("the sampled tokens are not whole numbers of 4 bytes")
    return tuple(int.from_bytes(payload[at : at + TOKEN_BYTES], "little") for at in range(0, len(payload), TOKEN_BYTES))
