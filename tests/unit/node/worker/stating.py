"""Three stages that have served requests of one session, their desks and archives on disk, and a ledger that pays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from types import SimpleNamespace
from typing import Any

import trio

from consensus.runtime.inference import queries
from consensus.runtime.inference.state import StageStatus
from inference.serving.finished import FinishedRequest
from inference.serving.statements import make_statement
from node.client.batches import make_finished_leaf
from node.client.chain_view import WorkerEntry
from node.client.errors import CallFailed
from node.worker.archive import DiskRequestArchive
from node.worker.statement_desk import StatementDesk
from proto_specs.codec import decode_as, encode
from proto_specs.types.calls import Settle, SettleStatement
from proto_specs.types.request import compute_settled_price, compute_stage_price, sign_order
from proto_specs.types.statement import (
    SignedStatement,
    Statement,
    compute_statement_id,
    is_statement_signed,
    sign_statement_as_client,
)
from proto_specs.types.statement_wire import (
    StatementAnswer,
    StatementProposal,
    StatementRefused,
    StatementSignature,
)
from tests.property.inference.serving.harness import SESSION_KEY, WORKER_KEYS, Path, make_manifest, make_order
from tests.unit.node.worker.world import SESSION, DictChain, make_chain

PROMPT = tuple(range(100, 140))
SLICE = 1_000
STAGES = 3
TOKENS = 12


@dataclass
class Ledger:
    """What a node shows of a chain that takes each sequence number once. Fulfils `StatementView`, and more."""

    view: DictChain
    requests: dict[bytes, Any] = field(default_factory=dict)
    challenge: Any = None
    earned: Counter[bytes] = field(default_factory=Counter)
    refused: list[str] = field(default_factory=list)

    @property
    def genesis(self) -> bytes:
        return self.view.genesis

    def __getattr__(self, name: str) -> Any:
        return getattr(self.view, name)

    async def get_request(self, request: bytes) -> Any:
        self.view._check()  # noqa: SLF001
        return self.requests.get(request)

    async def read(self, query: Any, _challenge: bytes) -> Any:
        assert query is queries.read_challenge
        return self.challenge

    def pass_blocks(self, blocks: int) -> None:
        found = self.view.sessions[SESSION]
        self.view.sessions[SESSION] = replace(found, height=found.height + blocks)

    def take(self, call: Settle | SettleStatement) -> None:
        """Raises CallFailed, as a block's receipt does."""
        stated = isinstance(call, SettleStatement)
        numbers = list_numbers(call.statement.statement) if stated else [call.order.order.sequence]
        if any((SESSION, one) in self.view.used for one in numbers):
            self.refused.append(type(call).__name__)
            raise CallFailed(type(call).__name__, "inference", "SequenceUsed")
        self.view.used.update((SESSION, one) for one in numbers)
        if isinstance(call, SettleStatement):
            assert is_statement_signed(call.statement, SESSION_KEY.public_key)
            told = call.statement.statement
            for stage in told.path:
                self.earned[stage.worker] += compute_stage_price(stage, told.prompt_tokens, told.tokens)
            self.requests[compute_statement_id(told)] = make_shown(StageStatus.AWAITING_DRAW)
            return
        order = call.order.order
        for stage in order.path:
            price = compute_stage_price(stage, order.prompt_tokens, call.voucher.voucher.tokens)
            self.earned[stage.worker] += price


@dataclass
class LedgerAccount:
    """An account whose every call is in the next block."""

    chain: Ledger
    sent: list[Settle | SettleStatement] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    results: dict[bytes, Exception] = field(default_factory=dict)

    async def send(self, call: Settle | SettleStatement, *_: Any) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.failures:
            raise self.failures.pop(0)
        extrinsic = len(self.sent).to_bytes(32, "big")
        self.sent.append(call)
        try:
            self.chain.take(call)
        except CallFailed as error:
            self.results[extrinsic] = error
        return extrinsic

    async def find(self, extrinsic: bytes, _name: str) -> None:
        if extrinsic in self.results:
            raise self.results[extrinsic]

    async def execute(self, call: Settle | SettleStatement) -> None:
        await self.find(await self.send(call), "")


class Stating:
    """The world. Each stage has a directory, an account, an archive and a desk."""

    def __init__(self, directory: FilePath, wait_s: float = 120.0) -> None:
        self.directory = directory
        self.wait_s = wait_s
        view = make_chain()
        found = view.sessions[SESSION]
        view.sessions[SESSION] = replace(found, deposit=10**7, escrow=10**7, requests_left=1_000)
        self.ledger = Ledger(view)
        self.accounts = [LedgerAccount(self.ledger) for _ in range(STAGES)]
        self.archives: list[DiskRequestArchive] = []
        self.desks: list[StatementDesk] = []
        self.restart()

    def restart(self) -> None:
        """Every worker starts again on what its disk has kept."""
        self.archives = [
            DiskRequestArchive(self.directory / str(stage), account, self.wait_s)  # type: ignore[arg-type]
            for stage, account in enumerate(self.accounts)
        ]
        self.desks = [
            StatementDesk(WORKER_KEYS[stage], make_manifest(), self.ledger, self.archives[stage])  # type: ignore[arg-type]
            for stage in range(STAGES)
        ]

    @property
    def workers(self) -> tuple[WorkerEntry, ...]:
        return tuple(self.ledger.view.workers[key.public_key] for key in WORKER_KEYS[:STAGES])

    async def serve(self, sequence: int, tokens: int = TOKENS) -> FinishedRequest:
        """A request is served; the last stage holds its settlement, and the client has the roots."""
        start = SLICE * sequence
        order = replace(
            make_order(PROMPT, tokens, STAGES).order, sequence=sequence, slice_start=start, slice_end=start + SLICE
        )
        outcome = Path(sign_order(order, SESSION_KEY), PROMPT, None, seed=sequence).run()
        settle = outcome.settlement
        assert settle is not None
        for stage, record in outcome.records.items():
            await self.archives[stage].retain(record)
        finished = FinishedRequest(settle.order, settle.voucher, tuple(one for one in settle.stage_roots if one))
        await self.archives[-1].hold(finished.request, settle)
        return finished

    async def ask(self, stage: int, proposal: StatementProposal) -> StatementSignature | StatementRefused:
        answer = await self.desks[stage].answer(encode(proposal), "peer")
        found: StatementSignature | StatementRefused = decode_as(StatementAnswer, answer)
        return found

    async def sign(self, proposal: StatementProposal) -> SignedStatement:
        """What all stages sign."""
        answers = [await self.ask(stage, proposal) for stage in range(STAGES)]
        signatures = tuple(one.signature for one in answers if isinstance(one, StatementSignature))
        assert len(signatures) == STAGES, answers
        return SignedStatement(proposal.statement, proposal.client_signature, signatures)

    async def turn(self) -> None:
        """A round of every archive, as it comes every few seconds."""
        for archive in self.archives:
            await archive.run_once()

    @property
    def settled_singly(self) -> list[int]:
        calls = [one for account in self.accounts for one in account.sent]
        return [one.order.order.sequence for one in calls if isinstance(one, Settle)]


def propose(finished: Sequence[FinishedRequest]) -> StatementProposal:
    """The statement of these requests, signed by their client."""
    return propose_leaves([make_finished_leaf(one) for one in finished], finished[0])


def propose_leaves(leaves: Sequence[Any], first: FinishedRequest, **changes: Any) -> StatementProposal:
    """A statement of these leaves with other fields, signed."""
    order = first.order
    statement = replace(make_statement(order.genesis, order.session, order.path, leaves), **changes)
    return StatementProposal(statement, sign_statement_as_client(statement, SESSION_KEY), tuple(leaves))


def make_shown(status: StageStatus) -> Any:
    """A statement on chain, as far as workers look at it."""
    is_open = status in (StageStatus.AWAITING_DRAW, StageStatus.CHALLENGED)
    stages = [SimpleNamespace(status=status)] * STAGES
    return SimpleNamespace(open_stages=STAGES * is_open, windows=0, stages=stages)


def list_numbers(statement: Statement) -> list[int]:
    return [number for span in statement.sequences for number in range(span.start, span.end)]


def compute_earned(finished: Sequence[FinishedRequest]) -> int:
    """What all stages earn by these requests, nmyl."""
    return sum(compute_settled_price(one.order, one.voucher.voucher.tokens, one.positions) for one in finished)
