"""A whole path in memory: client and stages with an arithmetic shard; frames come in any order that links allow."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from benchmarks.manifests import build_manifest, make_architecture
from inference.serving.boundary import BoundaryLog
from inference.serving.client import ClientRequest, RequestFailed, SettlementSent, TokenReceived, ToStage
from inference.serving.events import (
    Compute,
    Computed,
    Drafted,
    DrawnToken,
    Finished,
    GiveUp,
    PromptKnown,
    Retain,
    Rewind,
    Speculate,
    Stop,
    StopComputing,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
    read_failure_code,
)
from inference.serving.kept import KeptRows
from inference.serving.record import RequestRecord
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from proto_specs.ed25519 import SigningKey
from proto_specs.limits import DRAFT_TOKENS_MAX
from proto_specs.types.calls import Settle
from proto_specs.types.common import ZERO_HASH
from proto_specs.types.manifest import Manifest, WireDtype
from proto_specs.types.request import (
    Leaf,
    Order,
    PathStage,
    SignedOrder,
    compute_prompt_hash,
    pack_tokens,
    sign_order,
)
from proto_specs.types.sampling import SamplingParams
from proto_specs.types.wire import Accepted, Failed, FailureCode, FinishReason, Frame, OpenRequest, Rows, Settled

HIDDEN = 4
EOS = 7
LAYERS = 6
CLIENT = -1


def make_manifest() -> Manifest:
    """A manifest of a tiny model that nothing loads."""
    shape = make_architecture(LAYERS, HIDDEN, 50_000)
    return build_manifest(LAYERS, name="arithmetic", architecture=shape, eos_tokens=(EOS,))


SESSION_KEY = SigningKey.from_seed(b"c" * 32)
WORKER_KEYS = [SigningKey.from_seed(bytes([65 + stage]) * 32) for stage in range(3)]


def make_sent_leaf(rows: Rows) -> Leaf:
    """The sender's leaf over the rows of a first window, made as the sender makes it, apart from the receiver."""
    shape = (HIDDEN, WireDtype(make_manifest().wire_dtype)) if rows.boundary else (1, WireDtype.TOKEN)
    log = BoundaryLog(rows.request, rows.boundary, *shape)
    log.append(rows.start, rows.count, rows.payload)
    return log.make_leaf(0)


def make_order(prompt: tuple[int, ...], tokens_max: int, stages: int) -> SignedOrder:
    """An order over `stages` workers that split the layers evenly."""
    step = LAYERS // stages
    path = tuple(PathStage(WORKER_KEYS[one].public_key, one * step, (one + 1) * step, 1, 2) for one in range(stages))
    payload = b"".join(one.to_bytes(4, "little") for one in prompt)
    sampling = SamplingParams(0, 0, 1000, 0)
    order = Order(
        ZERO_HASH,
        ZERO_HASH,
        0,
        0,
        1_000_000,
        ZERO_HASH,
        0,
        compute_prompt_hash(payload),
        len(prompt),
        tokens_max,
        sampling,
        path,
    )
    return sign_order(order, SESSION_KEY)


Local = Computed | Drafted | Stop
"""What a party tells its own machine."""


class Drafts:
    """Drafts of the given lengths in turn, of which so many tokens are right; `truth` is the answer."""

    def __init__(self, turns: Sequence[tuple[int, int]], truth: Sequence[int]) -> None:
        self._turns = itertools.cycle(turns)
        self._truth = truth
        self.heard: list[int] = []
        self.sent: list[int] = []
        """Drafted rows by call."""

    def draft(self, drawn: Sequence[int], room: int) -> tuple[int, ...]:
        self.heard += drawn
        count, right = next(self._turns)
        count = min(count, room)
        ahead = self._truth[len(self.heard) : len(self.heard) + min(count, right)]
        wrong = (3 + at % 3 for at in range(count - len(ahead)))  # none of these is ever drawn
        self.sent.append(count)
        return (*ahead, *wrong)


@dataclass
class Outcome:
    """What came of a run."""

    tokens: list[int] = field(default_factory=list)
    finish: FinishReason = FinishReason.NONE
    settlement: Settle | None = None
    records: dict[int, RequestRecord] = field(default_factory=dict)
    finished: set[int] = field(default_factory=set)
    gave_up: dict[int, GiveUp] = field(default_factory=dict)
    client_failed: RequestFailed | None = None
    is_settlement_announced: bool = False
    freed: set[int] = field(default_factory=set)


class Path:
    """Delivers frames between parties over ordered links, choosing the next link by a seeded generator."""

    def __init__(
        self,
        order: SignedOrder,
        prompt: tuple[int, ...],
        eos_after: int | None,
        seed: int,
        tamper: Callable[[int, int, Frame], Frame | None] | None = None,
        gone_after: int | None = None,
        keys: Sequence[SigningKey] = WORKER_KEYS,
        kept: Mapping[int, KeptRows] = MappingProxyType({}),
        settled: Settle | None = None,
        drafts: Drafts | None = None,
    ) -> None:
        """`tamper` changes or drops frames; the client goes away once `gone_after` frames were delivered.

        `keys` are the stages' own. `kept` rows and what is `settled` are those of an order before. The first stage
        speculates with `drafts`.
        """
        self.drafts = drafts
        self._order = order
        self._stages = len(order.order.path)
        self._prompt = prompt
        self._eos_after = eos_after
        self._random = random.Random(seed)
        self.tamper = tamper or (lambda _from, _to, frame: frame)
        self.gone_after = gone_after
        self.links: dict[tuple[int, int], deque[Frame | Local]] = {}
        self.client = ClientRequest(order, prompt, SESSION_KEY, settled=settled)
        self.stages = [StageRequest(self._make_setup(one, keys[one], kept.get(one))) for one in range(self._stages)]
        self.outcome = Outcome()

    def _make_setup(self, stage: int, key: SigningKey, kept: KeptRows | None) -> StageSetup:
        needs_prompt = self._order.order.needs_prompt and stage == self._stages - 1
        prompt = pack_tokens(self._prompt) if needs_prompt else b""
        rows = 0 if self.drafts is None else DRAFT_TOKENS_MAX
        setup = StageSetup(self._order, stage, make_manifest(), SESSION_KEY.public_key, key, prompt, kept=kept)
        return replace(setup, drafts_max=rows)

    def run(self) -> Outcome:
        """Deliver until nothing is under way."""
        self.do_client(self.client.start())
        delivered = 0
        while any(self.links.values()):
            if delivered == self.gone_after:
                self.lose_client()
            link = self._random.choice([one for one, queue in self.links.items() if queue])
            self._deliver(*link, self.links[link].popleft())
            delivered += 1
        return self.outcome

    def _deliver(self, sender: int, receiver: int, frame: Frame | Local) -> None:
        if receiver == CLIENT:
            assert not isinstance(frame, Local)
            if self.gone_after is None or self.gone_after >= 0:
                self.do_client(self.client.handle(sender, frame))
        elif isinstance(frame, OpenRequest):
            self._put(receiver, CLIENT, Accepted(self.client.request))
        elif isinstance(frame, Failed) and sender == receiver - 1:
            stop = Stop(read_failure_code(frame.code), frame.message)
            if receiver == self._stages - 1:
                self._put(CLIENT, receiver, stop)  # a last stage waits for what its own client has sent
            else:
                self._do_stage(receiver, self.stages[receiver].handle(stop))
        else:
            self._do_stage(receiver, self.stages[receiver].handle(frame))

    def lose_client(self) -> None:
        """What it sent still arrives; it hears nothing more; its links end."""
        self.gone_after = -1
        for stage in {0, self._stages - 1}:
            self._put(CLIENT, stage, Stop(FailureCode.CANCELLED, "the client went away"))

    def _put(self, sender: int, receiver: int, frame: Frame | Local) -> None:
        if not isinstance(frame, Local):
            changed = self.tamper(sender, receiver, frame)
            if changed is None:
                return
            frame = changed
        self.links.setdefault((sender, receiver), deque()).append(frame)

    def do_client(self, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case ToStage():
                    self._put(CLIENT, effect.stage, effect.frame)
                case TokenReceived():
                    self.outcome.tokens.append(effect.token)
                    self.outcome.finish = effect.finish
                case SettlementSent():
                    self.outcome.is_settlement_announced = True
                case RequestFailed():
                    self.outcome.client_failed = effect

    def _do_stage(self, stage: int, effects: list[object]) -> None:
        for effect in effects:
            match effect:
                case Compute():
                    self._put(stage + 1000, stage, self._compute(stage, effect))
                case Rewind():
                    self._rewind(stage, effect.position)
                case PromptKnown():
                    assert effect.prompt == self._prompt
                case Speculate():
                    assert self.drafts is not None, "nobody else is asked"
                    self._put(stage + 1000, stage, Drafted(self.drafts.draft(effect.drawn, effect.room)))
                case ToClient() | ToUpstream() if isinstance(effect, ToClient) or stage == 0:
                    self._put(stage, CLIENT, effect.frame)
                case ToUpstream():
                    self._put(stage, stage - 1, effect.frame)
                case ToDownstream():
                    self._put(stage, stage + 1, effect.frame)
                case ToFirst():
                    self._put(stage, 0, effect.frame)
                case Retain():
                    self.outcome.records[stage] = effect.record
                case SubmitSettlement():
                    self.outcome.settlement = effect.call
                    self._put(stage, CLIENT, Settled(self.client.request, ZERO_HASH))
                case StopComputing():
                    self.outcome.freed.add(stage)
                case Finished():
                    self.outcome.finished.add(stage)
                case GiveUp():
                    self.outcome.gave_up[stage] = effect

    def _rewind(self, stage: int, position: int) -> None:
        """This shard computes every row by itself."""

    def _compute(self, stage: int, work: Compute) -> Computed:
        is_last = stage == self._stages - 1
        row = 4 if stage == 0 else HIDDEN * 4
        rows = [work.payload[at * row : (at + 1) * row] for at in range(work.count)]
        outputs = b"".join(hashlib.blake2b(bytes([stage]) + one, digest_size=HIDDEN * 4).digest() for one in rows)
        if is_last:
            first = max(work.start, len(self._prompt) - 1)
            drawn = (self._sample(position) for position in range(first, work.start + work.count))
            tokens = take_right(work, [DrawnToken(one, one == EOS) for one in drawn])
            count = work.count if not work.draft else len(tokens)
            return Computed(work.start, count, b"", outputs[: count * HIDDEN * 4], tokens)
        return Computed(work.start, work.count, outputs, b"", (), (), work.draft)

    def _sample(self, position: int) -> int:
        index = position - len(self._prompt) + 1
        return EOS if self._eos_after == index else 1000 + position


def take_right(work: Compute, drawn: Sequence[DrawnToken]) -> tuple[DrawnToken, ...]:
    """What a last shard draws of a call: the tokens up to the first that differs from the draft, or ends the answer."""
    for at, one in enumerate(drawn):
        if one.is_end or (at < len(work.draft) and one.token != work.draft[at]):
            return tuple(drawn[: at + 1])
    return tuple(drawn)
