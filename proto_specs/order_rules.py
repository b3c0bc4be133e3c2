"""Whether an order can be computed, settled and judged: one pure function for client, worker, runtime and verifier.

What one of them would refuse must not get past another: a request that settles but cannot be recomputed would hurt
honest verifiers, and one that is served but cannot settle honest workers. Says nothing of who the workers are, nor of
what they cost.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proto_specs.errors import ProtocolError
from proto_specs.limits import (
    GRAMMAR_BYTES_MAX,
    LOGPROBS_MAX,
    OPENING_BYTES_MAX,
    POSITIONS_MAX,
    SESSION_SEQUENCES_MAX,
    UNVOUCHED_TOKENS_MAX,
    WINDOW_POSITIONS,
)
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import Continuation, Order, PathStage, compute_positions, compute_windows
from proto_specs.types.sampling import GRAMMAR_ENGINE, GRAMMAR_ENGINE_VERSION, GrammarKind, SamplingParams

COMPUTED_AHEAD_MAX: Final = UNVOUCHED_TOKENS_MAX + 1
"""Tokens an honest worker may be ahead of the last voucher: those it sends unvouched, and one that it holds back."""

MILLI: Final = 1000
TEMPERATURE_MILLI_MAX: Final = 100 * MILLI
REPETITION_MILLI_MIN: Final = 10
REPETITION_MILLI_MAX: Final = 10 * MILLI
PENALTY_MILLI_MAX: Final = 10 * MILLI
BIAS_MILLI_MAX: Final = 1000 * MILLI
LEAF_BYTES_MAX: Final = 384
_HASH_BYTES: Final = 34
_PATH_STAGE_BYTES: Final = 64
_ORDER_BYTES: Final = 8 * 1024
_PLACE_BYTES: Final = 4 * 1024
_TOKEN_BYTES: Final = 4


class OrderInvalid(ProtocolError):
    """The order could not be computed, settled or judged. The text says what about it."""


@dataclass(frozen=True, slots=True)
class ModelBounds:
    """What an order has to fit. `row_bytes`: a position's hidden states on the wire."""

    layers: int
    vocab: int
    context_max: int
    row_bytes: int
    service_class: int

    @property
    def positions_max(self) -> int:
        """Positions that a request may have."""
        return min(self.context_max, POSITIONS_MAX)


def make_bounds(manifest: Manifest) -> ModelBounds:
    """The bounds of a model."""
    shape = manifest.architecture
    row_bytes = shape.hidden * WireDtype(manifest.wire_dtype).item_bytes
    return ModelBounds(shape.layers, shape.vocab, shape.context_max, row_bytes, manifest.service_class)


def validate_order(order: Order, bounds: ModelBounds) -> None:
    """Raises OrderInvalid for what no stage can compute or no verifier could judge."""
    if order.service_class != bounds.service_class:
        raise OrderInvalid(f"the model is served in class {bounds.service_class}, not {order.service_class}")
    validate_path(order.path, bounds.layers)
    if order.sequence >= SESSION_SEQUENCES_MAX:
        raise OrderInvalid(f"a session has the numbers 0 to {SESSION_SEQUENCES_MAX - 1}, not {order.sequence}")
    if order.prompt_tokens < 1 or order.tokens_max < 1:
        raise OrderInvalid("a request has at least one prompt token and asks for at least one")
    positions = compute_positions(order.prompt_tokens, order.tokens_max)
    if positions > bounds.positions_max:
        raise OrderInvalid(f"prompt and answer take {positions} positions of {bounds.positions_max} at most")
    windows = compute_windows(positions)
    if compute_opening_bytes_max(windows - 1, windows, len(order.path), bounds.row_bytes) > OPENING_BYTES_MAX:
        raise OrderInvalid(f"{positions} positions are more than could be opened to a verifier")
    if order.slice_start >= order.slice_end:
        raise OrderInvalid("an order names its slice of the deposit, which is not empty")
    if order.continuation is not None:
        validate_continuation(order.prompt_tokens, order.continuation)
    validate_sampling(order.sampling, bounds.vocab)


def validate_path(path: Sequence[PathStage], layers: int) -> None:
    """Raises OrderInvalid unless the stages cover layers [0, layers) in order, each once."""
    joints = [0, *(one.end for one in path)]
    is_joined = all(one.start == at < one.end for one, at in zip(path, joints, strict=False))
    if joints[-1] != layers or not is_joined:
        raise OrderInvalid(f"the path does not cover layers 0 to {layers - 1} in order")


def validate_continuation(prompt_tokens: int, continuation: Continuation) -> None:
    """Raises OrderInvalid for a continuation that goes on from nothing, or bills less than one position."""
    if continuation.epoch < 1:
        raise OrderInvalid("a continuation is of epoch 1 or later")
    if not 1 <= continuation.answer_start <= prompt_tokens:
        raise OrderInvalid(f"the answer begins at {continuation.answer_start}, outside the {prompt_tokens} tokens")
    settled = continuation.settled_positions
    if settled % WINDOW_POSITIONS or settled >= prompt_tokens:
        raise OrderInvalid(f"{settled} settled positions are not whole windows of a prompt of {prompt_tokens}")


def validate_positions(order: Order, tokens: int, positions: int, *, is_final: bool) -> None:
    """Raises OrderInvalid when `positions` computed do not fit `tokens` vouched for, by a final voucher or another.

    A request that ran to its end has exactly the positions of its tokens. In an aborted one workers may have computed
    more than the client vouched for, by as many tokens as workers go without a voucher; the voucher decides the bill.
    This bound keeps a worker from settling an old voucher for work that was vouched for later. One that ended within
    its prompt has whole windows of it, and bills no more. Positions that the order before settled are not enough.
    """
    if tokens > order.tokens_max:
        raise OrderInvalid(f"{tokens} tokens were vouched for, {order.tokens_max} were ordered")
    billed = most = compute_positions(order.prompt_tokens, tokens)
    if not is_final:
        most = compute_positions(order.prompt_tokens, min(tokens + COMPUTED_AHEAD_MAX, order.tokens_max))
    is_prompt = tokens == 0 and positions % WINDOW_POSITIONS == 0
    least = order.settled_positions + 1 if is_prompt else max(billed, order.settled_positions + 1)
    if not least <= positions <= most:
        raise OrderInvalid(f"{positions} positions computed, {least} to {most} expected")


def validate_sampling(sampling: SamplingParams, vocab: int) -> None:
    """Raises OrderInvalid for decoding rules that are out of range or not in their one form."""
    if sampling.temperature_milli > TEMPERATURE_MILLI_MAX:
        raise OrderInvalid(f"temperature {_show(sampling.temperature_milli)} is above {TEMPERATURE_MILLI_MAX // MILLI}")
    if not 1 <= sampling.top_p_milli <= MILLI:
        raise OrderInvalid(f"top_p {_show(sampling.top_p_milli)} is not above 0 and up to 1")
    if sampling.min_p_milli > MILLI:
        raise OrderInvalid(f"min_p {_show(sampling.min_p_milli)} is above 1")
    if not REPETITION_MILLI_MIN <= sampling.repetition_penalty_milli <= REPETITION_MILLI_MAX:
        allowed = f"{_show(REPETITION_MILLI_MIN)} to {_show(REPETITION_MILLI_MAX)}"
        raise OrderInvalid(f"repetition penalty {_show(sampling.repetition_penalty_milli)} is not {allowed}")
    penalties = {"presence": sampling.presence_penalty_milli, "frequency": sampling.frequency_penalty_milli}
    for name, value in penalties.items():
        if abs(value) > PENALTY_MILLI_MAX:
            raise OrderInvalid(f"{name} penalty {_show(value)} is beyond {PENALTY_MILLI_MAX // MILLI}")
    tokens = [one.token for one in sampling.logit_bias]
    if tokens != sorted(set(tokens)) or any(one >= vocab for one in tokens):
        raise OrderInvalid(f"logit biases are for tokens of the {vocab} there are, in ascending order, each once")
    if any(abs(one.bias_milli) > BIAS_MILLI_MAX for one in sampling.logit_bias):
        raise OrderInvalid(f"a logit bias is beyond {BIAS_MILLI_MAX // MILLI}")
    if b"" in sampling.stop or len(set(sampling.stop)) != len(sampling.stop):
        raise OrderInvalid("stop strings are not empty, each given once")
    if sampling.logprobs > LOGPROBS_MAX:
        raise OrderInvalid(f"{sampling.logprobs} log-probabilities a token are asked for, at most {LOGPROBS_MAX} come")
    if sampling.prompt_logprobs and not sampling.logprobs:
        raise OrderInvalid("log-probabilities of the prompt are asked for, but none a token")
    grammar = sampling.grammar
    if grammar is not None:
        if (grammar.engine, grammar.version) != (GRAMMAR_ENGINE, GRAMMAR_ENGINE_VERSION):
            known = f"{GRAMMAR_ENGINE} {GRAMMAR_ENGINE_VERSION}"
            raise OrderInvalid(f"grammars are read by {known}, not {grammar.engine} {grammar.version}")
        if grammar.kind not in tuple(GrammarKind):
            raise OrderInvalid(f"grammars of kind {grammar.kind} are unknown")


def compute_opening_bytes_max(window: int, windows: int, stages: int, row_bytes: int) -> int:
    """Upper bound of an honest opening's encoding; a verifier reads no more. `row_bytes`: the wider of a row's sides.

    Counts the input rows of windows 0 to `window`, output rows and trace of one window, leaf hashes of all windows, the
    tokens before with their leaves, the order, its prompt and its grammar, and its place in a statement.
    """
    payloads = (window + 3) * (WINDOW_POSITIONS * row_bytes + LEAF_BYTES_MAX)
    tokens = (window + 1) * (2 * WINDOW_POSITIONS * _TOKEN_BYTES + LEAF_BYTES_MAX)
    order = stages * _PATH_STAGE_BYTES + _ORDER_BYTES + GRAMMAR_BYTES_MAX + _PLACE_BYTES
    return payloads + tokens + 2 * windows * _HASH_BYTES + order


def _show(milli: int) -> str:
    """Without floats: what the chain computes is of integers alone, be it only a text."""
    whole, part = divmod(abs(milli), MILLI)
    return f"{'-' if milli < 0 else ''}{whole}.{part:03d}".rstrip("0").rstrip(".")
