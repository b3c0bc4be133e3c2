"""What happens on the recorded chain: scripted acts that make every call succeed, and seeded noise in between.

An act is a generator: it queues transactions and yields where a block goes by. Several run side by side.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args

from benchmarks.manifests import build_manifest
from consensus.runtime.inference.events import ChallengeDrawn
from consensus.runtime.receipts import Receipt
from genesis.dev import DevIdentity, build_dev_spec, get_dev_identity
from genesis.spec import ChainSpec
from proto_specs.codec import encode
from proto_specs.types import calls
from proto_specs.types.calls import Outcome
from proto_specs.types.chain import DuplicateVote, Transaction
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.manifest import compute_model_id
from tests.determinism import acts
from tests.determinism.sealed import SealedChain, derive_seed
from tests.property.proto_specs.shapes import make_smallest
from tests.unit.consensus.runtime.inference.inference_world import LAYERS, World

BLOCKS = 200
SEED = 3
VALIDATORS = ("alice", "eve", "ferdie", "grace")
PEOPLE = ("bob", "charlie", "dave", "client", "heidi", "ivan")
NOISE = ("client", "heidi", "ivan")
AMOUNTS = (0, 1, 999_999, 1_000_000, 123_456_789, 50 * NMYL_PER_MYL, 1 << 52, (1 << 64) - 1)


def build_spec() -> ChainSpec:
    """The dev spec with four validators and windows short enough for everything to come due within the recording."""
    spec = build_dev_spec(VALIDATORS, name="myelin-replay", names=PEOPLE)
    params = spec.params
    return replace(
        spec,
        params=replace(
            params,
            staking=replace(
                params.staking, unbonding_blocks=30, evidence_blocks=20, evidence_ms=20_000, jail_blocks=15
            ),
            inference=replace(
                params.inference,
                base_challenge_ppm=500_000,
                committee_size=2,
                commit_blocks=4,
                reveal_blocks=4,
                worker_unbonding_blocks=11,
                session_notice_blocks=5,
                session_expiry_blocks=60,
                retention_blocks=20,
            ),
            governance=replace(params.governance, voting_blocks=8),
        ),
    )


class Story(World):
    """The chain with everybody's queue of transactions for the next block."""

    def __init__(self, seed: int = SEED) -> None:
        self.random = random.Random(derive_seed("story", seed))
        self.sealed = SealedChain(build_spec(), (*VALIDATORS, *PEOPLE))
        self.chain = self.sealed
        self.client = get_dev_identity("client")
        self.session_key = get_dev_identity("session").account_key
        self.workers = [get_dev_identity(name) for name in ("bob", "charlie", "dave")]
        self.verifiers = [get_dev_identity(name) for name in VALIDATORS]
        self.model = compute_model_id(build_manifest(LAYERS))
        self.session = bytes(32)
        self.drawn: list[ChallengeDrawn] = []
        self.evidence: list[DuplicateVote] = []
        self.queue: list[Transaction] = []
        self.sent: Counter[bytes] = Counter()
        self.results: dict[bytes, Receipt] = {}
        self.succeeded: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()

    @property
    def height(self) -> int:
        """The last block's."""
        return self.chain.height

    def send(self, who: DevIdentity, call: Any, **fields: Any) -> Transaction:
        """Queue a call for the next block under the account's next nonce."""
        nonce = self.chain.sign(who, call).body.nonce + self.sent[who.account]
        self.sent[who.account] += 1
        made = self.chain.sign(who, call, nonce, **fields)
        self.queue.append(made)
        return made

    def expect(self, who: DevIdentity, call: Any, **fields: Any) -> Iterator[None]:
        """Queue a call that has to succeed, and let its block go by; then `receipt` is its receipt."""
        made = self.send(who, call, **fields)
        yield
        self.receipt = self.results[encode(made)]
        assert self.receipt.error is None, (type(call).__name__, self.receipt.error)

    def seal(self) -> None:
        """Make a block of the queue."""
        executed = self.sealed.block(self.queue, self.evidence)
        self.results = {}
        for transaction, receipt in zip(self.queue, executed.receipts, strict=True):
            self.results[encode(transaction)] = receipt
            counted = self.failed if receipt.error else self.succeeded
            counted[type(transaction.body.call).__name__] += 1
        self.drawn += [one for one in executed.events.initialize if isinstance(one, ChallengeDrawn)]
        self.queue, self.evidence = [], []
        self.sent.clear()

    def wait(self, blocks: int) -> Iterator[None]:
        """Let blocks go by."""
        for _ in range(blocks):
            yield


def play(seed: int = SEED, blocks: int = BLOCKS) -> Story:
    """The whole recording."""
    story = Story(seed)
    running = [make(story) for make in acts.list_acts()] + [make_noise(story), fail_each_call(story)]
    while story.height < blocks:
        running = [act for act in running if next(act, StopIteration) is not StopIteration]
        story.seal()
    assert len(running) == 1, f"acts that did not end: {[act.__name__ for act in running]}"  # type: ignore[attr-defined]
    return story


def fail_each_call(story: Story) -> Iterator[None]:
    """Every call with the smallest arguments it can have: of nobody, of nothing, to nobody. That moves all of it."""
    mallory = get_dev_identity("ivan")
    for call in sorted(set(get_args(calls.Call)) - {calls.TransferAll}, key=lambda one: one.__name__):
        story.send(mallory, make_smallest(call))
        yield


def make_noise(story: Story) -> Iterator[None]:
    """Small money, moved and refused; tips and mortality of every kind. Never ends."""
    accounts = [get_dev_identity(name).account for name in PEOPLE] + [bytes([7]) * 32]
    while True:
        for _ in range(story.random.randrange(4)):
            who = get_dev_identity(story.random.choice(NOISE))
            amount = story.random.choice(AMOUNTS)
            call = story.random.choice(
                [
                    calls.Transfer(story.random.choice(accounts), amount),
                    calls.Transfer(story.random.choice(accounts), story.random.randrange(10**9, 10**12)),
                    calls.Bond(amount),
                    calls.Unbond(amount),
                    calls.WithdrawUnbonded(),
                    calls.Remark(story.random.randbytes(story.random.randrange(40))),
                    calls.CloseSession(story.random.randbytes(32)),
                    calls.TopUpSession(story.random.randbytes(32), amount),
                ]
            )
            fields = {"tip": story.random.choice((0, 0, 1, 77, 10**6))}
            if story.height and story.random.random() < 0.3:
                birth = story.random.randrange(max(0, story.height - 8), story.height + 1)
                fields |= {"birth_height": birth, "period_blocks": story.random.randrange(12, 64)}
            story.send(who, call, **fields)
        yield


def choose_outcome(story: Story) -> Outcome:
    """Mostly honest work."""
    return story.random.choice((Outcome.PASS,) * 6 + (Outcome.FAIL, Outcome.UNAVAILABLE, Outcome.INCONCLUSIVE))
