"""The client's part in a request, sans-IO: it orders, feeds the prompt, takes tokens, vouches and countersigns.

The client signs two boundaries: the first as sender (its prompt, and the generated tokens that are fed back) and the
last as receiver. It never relays activations.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from inference.serving.boundary import BoundaryError, BoundaryLog
from inference.serving.events import read_failure_code
from inference.serving.finished import FinishedRequest
from inference.serving.leaves import accept_countersign, sign_next_leaf
from inference.serving.roots import validate_roots
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.merkle import compute_root
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import WireDtype
from proto_specs.types.request import (
    FIRST_PREVIOUS,
    SignedOrder,
    SignedStageRoots,
    Voucher,
    compute_leaf_hash,
    compute_payload_hash,
    compute_request_id,
    compute_settled_price,
    compute_tokens_hash,
    compute_vouched_tokens,
    compute_windows,
    is_output_signed,
    pack_tokens,
    sign_input,
    sign_voucher,
)
from proto_specs.types.sampling import TokenLogprob
from proto_specs.types.wire import (
    Accepted,
    Countersign,
    Failed,
    FailureCode,
    FinishReason,
    Frame,
    OpenRequest,
    OutputLeaf,
    PrefixRoots,
    PromiseFrame,
    PromptLogprobs,
    RootsFrame,
    Rows,
    Settled,
    Token,
    VoucherFrame,
)


@dataclass(frozen=True, slots=True)
class ToStage:
    """Send a frame to stage number `stage` of the path."""

    stage: int
    frame: Frame


@dataclass(frozen=True, slots=True)
class TokenReceived:
    """The next generated token, for the user, with the log-probabilities that were ordered."""

    index: int
    token: int
    finish: FinishReason
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True, slots=True)
class PromptScored:
    """Log-probabilities of the prompt's tokens number `start` + 1 on, each with the likeliest in its place."""

    start: int
    rows: tuple[tuple[TokenLogprob, ...], ...]


@dataclass(frozen=True, slots=True)
class SettlementSent:
    """The last stage submitted the settlement as this extrinsic; the request is done."""

    extrinsic: bytes


@dataclass(frozen=True, slots=True)
class StatementAwaited:
    """The last stage leaves the settlement to a statement for a while; the request is done."""

    finished: FinishedRequest


@dataclass(frozen=True, slots=True)
class RequestFailed:
    """Stage `stage` cannot serve (any longer), or reports another that cannot; only vouched tokens are settled.

    `lost`: the stage that it says it has lost.
    """

    stage: int
    code: FailureCode
    message: str
    lost: int | None = None


ClientEffect = ToStage | TokenReceived | PromptScored | SettlementSent | StatementAwaited | RequestFailed


class ClientRequest:
    """State of a request at the client. `start` opens it; `handle` takes a stage's frame."""

    def __init__(
        self,
        order: SignedOrder,
        prompt: tuple[int, ...],
        session_key: SigningKey,
        grammar: bytes = b"",
        eos_tokens: Collection[int] | None = None,
        settled: Settle | None = None,
        *,
        batched: bool = False,
    ) -> None:
        """`eos_tokens` are the model's, by which an answer may end before its length; None: unknown here.

        `settled` settles the positions that a continuation does not bill. `batched`: see OpenRequest.
        """
        self._order = order
        self._eos = None if eos_tokens is None or order.order.sampling.stop else frozenset(eos_tokens)
        self._grammar = grammar
        self._settled = settled
        self._batched = batched
        self._prefix: tuple[SignedStageRoots, ...] = ()
        self._key = session_key
        self.request = compute_request_id(order.order)
        self._stages = len(order.order.path)
        self._prompt = prompt
        self._accepted: set[int] = set()
        self._fed = BoundaryLog(self.request, 0, 1, WireDtype.TOKEN)
        self._tokens: list[int] = []
        self._tokens_hashes = [ZERO_HASH]
        self._leaves_received = 0
        self._leaf_hashes: list[bytes] = []
        self._is_finished = False
        self._vouched = -1
        self._scored = 0

    def start(self) -> list[ClientEffect]:
        """Ask every stage to take part."""
        last = self._stages - 1
        prompt = pack_tokens(self._prompt) if self._order.order.needs_prompt else b""
        settled, batched = self._settled, self._batched
        opening = [ToStage(one, OpenRequest(self._order, settled=settled, batched=batched)) for one in range(last)]
        return [*opening, ToStage(last, OpenRequest(self._order, prompt, self._grammar, settled, batched))]

    def handle(self, stage: int, frame: Frame) -> list[ClientEffect]:
        """The effects of a stage's frame. A frame that breaks the protocol becomes `RequestFailed`."""
        try:
            return self._dispatch(stage, frame)
        except BoundaryError as error:
            return [RequestFailed(stage, FailureCode.BAD_INPUT, str(error))]

    @property
    def is_signed(self) -> bool:
        """Whether the answer is complete and everything is signed; the stages then settle without the client."""
        windows = compute_windows(self._fed.positions)
        return self._is_finished and self._fed.leaves == self._leaves_received == windows

    @property
    def vouched(self) -> int:
        """Tokens that were promised to be paid; -1 before any promise, which covers the prompt."""
        return self._vouched

    @property
    def order(self) -> SignedOrder:
        """What was ordered."""
        return self._order

    @property
    def tokens(self) -> tuple[int, ...]:
        """The tokens that came."""
        return tuple(self._tokens)

    @property
    def is_complete(self) -> bool:
        """Whether the last token came, although not everything is signed yet."""
        return self._is_finished

    @property
    def cost_nmyl(self) -> int:
        """What was promised for this order."""
        order = self._order.order
        return 0 if self._vouched < 0 else compute_settled_price(order, self._vouched, order.prompt_tokens)

    def make_settlement(self) -> Settle | None:
        """What settles the first windows, which all stages and the client have signed; None before it bills any."""
        order = self._order.order
        if not self._prefix or self._prefix[0].roots.positions <= order.settled_positions:
            return None
        tokens = compute_vouched_tokens(order, self._prefix[0].roots.positions)
        voucher = Voucher(self.request, tokens, self._tokens_hashes[tokens], False)
        return Settle(self._order, sign_voucher(voucher, self._key), self._prefix)

    @property
    def tokens_max(self) -> int:
        """The number of tokens ordered."""
        return self._order.order.tokens_max

    def get_awaited_stage(self) -> int:
        """The stage that the request waits for, as far as a client can tell."""
        waiting = [stage for stage in range(self._stages) if stage not in self._accepted]
        return waiting[0] if waiting else self._stages - 1

    def _dispatch(self, stage: int, frame: Frame) -> list[ClientEffect]:
        is_last = stage == self._stages - 1
        match frame:
            case Accepted() | Failed() | Token() | Countersign() | Settled() | PromptLogprobs() if (
                frame.request != self.request
            ):
                raise BoundaryError(f"a {type(frame).__name__} frame of another request")
            case Failed():
                lost = frame.lost if frame.lost is not None and frame.lost < self._stages else None
                return [RequestFailed(stage, read_failure_code(frame.code), frame.message, lost)]
            case Accepted():
                return self._on_accepted(stage)
            case Token() if is_last:
                return self._on_token(frame)
            case PromptLogprobs() if is_last:
                return self._on_prompt_logprobs(frame)
            case OutputLeaf() if is_last:
                return self._on_leaf(stage, frame)
            case PrefixRoots() if is_last:
                return self._on_prefix(frame.roots)
            case Countersign() if stage == 0:
                accept_countersign(self._fed, 0, frame, self._order.order.path[0].worker)
                return []
            case Settled() if is_last and self.is_signed:
                return [SettlementSent(frame.extrinsic)]
            case RootsFrame() if is_last and self._batched and self.is_signed:
                return self._on_roots(frame.roots)
            case _:
                raise BoundaryError(f"a {type(frame).__name__} frame is not due from stage {stage}")

    def _on_accepted(self, stage: int) -> list[ClientEffect]:
        if stage in self._accepted:
            raise BoundaryError("accepted twice")
        self._accepted.add(stage)
        if len(self._accepted) < self._stages:
            return []
        effects = self._promise(Voucher(self.request, 0, ZERO_HASH, False), range(self._stages))
        for start in range(0, len(self._prompt), WINDOW_POSITIONS):
            rows = self._prompt[start : start + WINDOW_POSITIONS]
            effects.append(ToStage(0, self._feed(rows)))
            effects += self._close_fed()
        return effects

    def _feed(self, tokens: tuple[int, ...]) -> Rows:
        start = self._fed.positions
        payload = pack_tokens(tokens)
        self._fed.append(start, len(tokens), payload)
        return Rows(self.request, 0, start, len(tokens), payload)

    def _close_fed(self) -> list[ClientEffect]:
        """The OUTPUT leaf of boundary 0 for a full window, or for the last window of a finished request."""
        window = self._fed.leaves
        count = self._fed.get_count(window)
        if count == 0 or (count < WINDOW_POSITIONS and not self._is_finished):
            return []
        return [ToStage(0, sign_next_leaf(self._fed, self._key))]

    def _on_token(self, frame: Token) -> list[ClientEffect]:
        if len(self._accepted) < self._stages or self._is_finished or frame.index != len(self._tokens):
            raise BoundaryError(f"token {frame.index} is not due")
        allowed = {FinishReason.STOP, FinishReason.NONE}
        if frame.index + 1 == self._order.order.tokens_max:
            allowed = {FinishReason.STOP, FinishReason.LENGTH}
        if frame.finish not in allowed:
            asked = self._order.order.tokens_max
            raise BoundaryError(f"token {frame.index + 1} of {asked} came with finish reason {frame.finish}")
        if frame.finish == FinishReason.STOP and self._eos is not None and frame.token not in self._eos:
            raise BoundaryError(f"token {frame.index + 1} is said to end the answer, and is none that ends one")
        self._check_logprobs(frame.token, frame.logprobs)
        self._tokens.append(frame.token)
        self._tokens_hashes.append(compute_tokens_hash(self._tokens_hashes[-1], frame.token))
        self._is_finished = frame.finish != FinishReason.NONE
        if not self._is_finished:
            self._feed((frame.token,))
        token = TokenReceived(frame.index, frame.token, FinishReason(frame.finish), frame.logprobs)
        return [token, *self._close_fed()]

    def _on_prompt_logprobs(self, frame: PromptLogprobs) -> list[ClientEffect]:
        end = frame.start + len(frame.rows)
        is_asked = self._order.order.sampling.prompt_logprobs
        if not is_asked or frame.start != self._scored or not frame.rows or end >= len(self._prompt):
            raise BoundaryError(f"log-probabilities of the prompt from {frame.start} on are not due")
        for token, row in zip(self._prompt[frame.start + 1 : end + 1], frame.rows, strict=True):
            self._check_logprobs(token, row)
        self._scored = end
        return [PromptScored(frame.start, frame.rows)]

    def _check_logprobs(self, token: int, scores: Sequence[TokenLogprob]) -> None:
        """What was ordered: the token's own first, and no more than asked for."""
        asked = self._order.order.sampling.logprobs
        if len(scores) > asked or (asked and (not scores or scores[0].token != token)):
            raise BoundaryError(f"log-probabilities of token {token} are not those that were ordered")

    def _on_prefix(self, roots: tuple[SignedStageRoots, ...]) -> list[ClientEffect]:
        if len(roots) != self._stages:
            raise BoundaryError(f"prefix roots of {len(roots)} stages of {self._stages}")
        validate_roots(self._order.order, self.request, roots)
        stated = roots[0].roots
        known = self._prefix[0].roots.windows if self._prefix else 0
        if stated.positions != stated.windows * WINDOW_POSITIONS or not known < stated.windows <= self._leaves_received:
            raise BoundaryError(f"prefix roots over {stated.windows} windows of {self._leaves_received} are not due")
        self._prefix = roots
        return []

    def _on_roots(self, roots: tuple[SignedStageRoots, ...]) -> list[ClientEffect]:
        """The roots over the whole request: over what this side has sent and received, too."""
        if len(roots) != self._stages:
            raise BoundaryError(f"roots of {len(roots)} stages of {self._stages}")
        validate_roots(self._order.order, self.request, roots)
        ends = (roots[0].roots.positions, roots[0].roots.input_root, roots[-1].roots.output_root)
        if ends != (self._fed.positions, self._fed.compute_root(), compute_root(self._leaf_hashes)):
            raise BoundaryError("the roots are not over what was sent to the path and came of it")
        voucher = Voucher(self.request, self._vouched, self._tokens_hashes[self._vouched], True)
        return [StatementAwaited(FinishedRequest(self._order, sign_voucher(voucher, self._key), roots))]

    def _on_leaf(self, stage: int, frame: OutputLeaf) -> list[ClientEffect]:
        """Countersign the last boundary's window and vouch for the tokens up to its end."""
        leaf = frame.leaf
        start = self._leaves_received * WINDOW_POSITIONS
        end = leaf.start + leaf.count
        prompt = len(self._prompt)
        previous = self._leaf_hashes[-1] if self._leaf_hashes else FIRST_PREVIOUS
        stated = (leaf.request, leaf.boundary, leaf.window, leaf.start, leaf.width, leaf.dtype, leaf.previous)
        wanted = (self.request, self._stages, self._leaves_received, start, 1, WireDtype.TOKEN, previous)
        if stated != wanted or not 1 <= leaf.count <= WINDOW_POSITIONS:
            raise BoundaryError(f"the leaf of window {leaf.window} at the last boundary is not the one due")
        vouched = max(0, end - prompt + 1)
        is_end = self._is_finished and end == self._fed.positions
        if vouched > len(self._tokens) or (leaf.count < WINDOW_POSITIONS and not is_end):
            raise BoundaryError(f"a leaf over {vouched} tokens where {len(self._tokens)} came")
        tokens = self._tokens[max(0, start - prompt + 1) : vouched]
        payload = pack_tokens(tokens)
        if leaf.payload_hash != compute_payload_hash(payload):
            raise BoundaryError(f"the leaf of window {leaf.window} is not over the tokens that came")
        if not is_output_signed(leaf, self._order.order.path[-1].worker, frame.signature):
            raise BoundaryError(f"the leaf of window {leaf.window} is not signed by the last stage")
        self._leaves_received += 1
        self._leaf_hashes.append(compute_leaf_hash(leaf))
        self._vouched = vouched
        voucher = Voucher(self.request, vouched, self._tokens_hashes[vouched], is_end)
        countersign = Countersign(self.request, self._stages, leaf.window, sign_input(leaf, self._key))
        others = range(stage) if vouched else ()
        return [ToStage(stage, countersign), *self._promise(voucher, (stage, *others))]

    def _promise(self, voucher: Voucher, stages: Iterable[int]) -> list[ClientEffect]:
        """Vouch to these stages."""
        signed = sign_voucher(voucher, self._key)
        last = self._stages - 1
        return [ToStage(one, VoucherFrame(signed) if one == last else PromiseFrame(signed)) for one in stages]
