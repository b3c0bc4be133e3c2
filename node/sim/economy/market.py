"""The market: workers, verifiers and clients on the chain, requests that come each block, and the truth about them.

Nothing is computed. What a worker did of a request is its conduct, and a verifier that recomputes finds out.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from consensus.runtime.inference import state as inference
from consensus.runtime.inference.events import AuditDrawn, ChallengeContested, ChallengeDrawn
from consensus.runtime.inference.parameters import InferenceParams
from consensus.runtime.inference.state import Challenge, WorkerStatus
from consensus.runtime.receipts import Receipt
from node.sim.economy.blocks import MadeBlock, SimLedger
from node.sim.economy.committees import CommitteeDuty, DrawnWindow, VerifierPolicy
from node.sim.economy.conduct import PERMILLE_WHOLE, Conduct, WorkerPolicy
from node.sim.economy.parties import Party, SimAccount, make_rng
from node.sim.economy.plan import EconomyPlan, build_economy_manifest, build_economy_spec, build_params
from node.sim.economy.truth import ServedWork, SimulatedWorker
from node.sim.economy.work import (
    Lengths,
    OpenedSession,
    make_order,
    make_settle,
    make_settle_statement,
    make_statement,
)
from proto_specs.codec import encode
from proto_specs.hashing import Tag
from proto_specs.limits import SESSION_SEQUENCES_MAX, STAGES_MAX, WINDOW_POSITIONS
from proto_specs.promises import is_conflict, make_promise
from proto_specs.types import calls
from proto_specs.types.common import NMYL_PER_MYL
from proto_specs.types.manifest import compute_model_id
from proto_specs.types.promise_calls import PromisedByOrder, ReportDoublePromise
from proto_specs.types.request import PathStage, SignedOrder, compute_request_id, compute_session_id
from proto_specs.types.statement import compute_statement_id

PROMPT_MEDIAN, ANSWER_MEDIAN, SIGMA = 200, 150, 0.5
PROMPT_MAX, ANSWER_MAX = 1_000, 512
DEPOSIT = 100_000 * NMYL_PER_MYL
SETTLE_TRIES = 20
RETRY_BLOCKS = 3
WARM_BLOCKS_MAX = 200
_FREE: tuple[None, ...] = (None,) * STAGES_MAX
DRAIN_BLOCKS = 130
"""Requests that are under way at the end get so long: three rounds of a committee."""


class Actor(Protocol):
    """Somebody with a plan of its own, beside those who serve, judge and ask."""

    def act(self, market: Market) -> None:
        """After a block, before the next one."""


@dataclass(slots=True)
class _Unsettled:
    """A settlement that the chain could not take yet."""

    signer: bytes
    call: calls.Settle | calls.SettleStatement
    height: int
    tries: int


@dataclass(slots=True)
class Market:
    """All of it. Deviations are put in before `start`; `began` is each party's wealth when measuring began."""

    plan: EconomyPlan
    seed: int
    ledger: SimLedger = field(init=False)
    model: bytes = field(init=False)
    duty: CommitteeDuty = field(init=False)
    workers: list[SimulatedWorker] = field(default_factory=list)
    validators: list[SimAccount] = field(default_factory=list)
    clients: list[SimAccount] = field(default_factory=list)
    parties: dict[str, Party] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    actors: list[Actor] = field(default_factory=list)
    served: dict[bytes, ServedWork] = field(default_factory=dict)
    listeners: list[Callable[[Any], None]] = field(default_factory=list)
    requests: int = 0
    _sessions: dict[str, OpenedSession] = field(default_factory=dict)
    _by_key: dict[bytes, SimulatedWorker] = field(default_factory=dict)
    _waiting: list[_Unsettled] = field(default_factory=list)
    _paid: dict[bytes, list[SignedOrder]] = field(default_factory=dict)
    _lengths: random.Random = field(init=False)
    _paths: random.Random = field(init=False)
    _own: random.Random = field(init=False)

    def __post_init__(self) -> None:
        plan = self.plan
        names = [f"validator-{index}" for index in range(plan.validators)]
        names += [f"worker-{index}" for index in range(plan.stages * plan.workers_per_stage)]
        names += [f"client-{index}" for index in range(plan.clients)]
        names += ["owner", "spare-0", "spare-1", "spare-2", "spare-3"]
        accounts = {name: SimAccount(self.seed, name) for name in names}
        self.parties = {name: Party(name, account) for name, account in accounts.items()}
        self.validators = [accounts[name] for name in names if name.startswith("validator")]
        self.clients = [accounts[name] for name in names if name.startswith("client")]
        spec = build_economy_spec(build_params(plan), list(accounts.values()), self.validators)
        self.ledger = SimLedger(spec, self.seed)
        self.duty = CommitteeDuty(self.ledger, self.look)
        manifest = build_economy_manifest(plan.layers)
        self.model = compute_model_id(manifest)
        self._lengths, self._paths = make_rng(self.seed, "lengths"), make_rng(self.seed, "paths")
        self._own = make_rng(self.seed, "own")
        self._submit("owner", calls.RegisterModel(encode(manifest)))
        self.make_block()
        for name in names:
            if name.startswith("worker"):
                stage = int(name.removeprefix("worker-")) // plan.workers_per_stage
                self.add_worker(name, stage)
        for one in self.validators:
            self.duty.join(one, self.parties[one.name], VerifierPolicy())
            self.ledger.submit(one.account, calls.RegisterVerifier(self.model))
        for one in (*self.clients, accounts["spare-0"]):
            self.open_session(one, DEPOSIT)
        self.make_block()

    def add_worker(self, name: str, stage: int, bond: int | None = None, *, is_listed: bool = True) -> SimulatedWorker:
        """Register an account's worker. Once a block has taken it, it is audited, and if it `is_listed` it serves."""
        party = self.parties[name]
        account = party.account
        start, end = self.plan.get_range(stage)
        call = calls.RegisterWorker(
            model=self.model,
            start=start,
            end=end,
            bond=self.plan.bond if bond is None else bond,
            worker_key=account.worker_key.public_key,
            key_proof=account.worker_key.sign(Tag.KEY_PROOF_SIGN, account.account),
            peer_id="sim",
            addresses=("/ip4/127.0.0.1/tcp/1",),
            prefill_price=self.plan.prefill_price,
            decode_price=self.plan.decode_price,
        )
        self.ledger.submit(account.account, call)
        worker = SimulatedWorker(account, party, WorkerPolicy(), stage)
        if is_listed:
            self.workers.append(worker)
        self._by_key[account.worker_key.public_key] = worker
        return worker

    def open_session(
        self, client: SimAccount, deposit: int, requests_max: int = SESSION_SEQUENCES_MAX
    ) -> OpenedSession:
        """Open a session in the next block."""
        nonce = self._next_nonce(client.account)
        session = OpenedSession(client, compute_session_id(client.account, nonce), self.model, deposit)
        call = calls.OpenSession(
            self.model, client.session_key.public_key, self.plan.decode_price, deposit, requests_max
        )
        self.ledger.submit(client.account, call)
        self._sessions[client.name] = session
        return session

    def get_session(self, name: str) -> OpenedSession:
        """The session that an account opened last."""
        return self._sessions[name]

    def get_account(self, name: str) -> SimAccount:
        """An account by its name."""
        return self.parties[name].account

    def warm_up(self) -> None:
        """Honest requests until every worker is through probation; then measuring begins."""
        least = self.read_inference_params().probation_value
        for _ in range(WARM_BLOCKS_MAX):
            if all(self.read_worker(one).proven >= least for one in self.workers):
                break
            self.ask_some()
            self.step()
        self.begin()

    def begin(self) -> None:
        """Measure from here."""
        for party in self.parties.values():
            party.cost = party.worth = 0
            party.parts.clear()
            self.began[party.name] = party.read_wealth(self.ledger.state)

    def run(self) -> None:
        """The plan's epochs, and until what is under way then is resolved."""
        for _ in range(self.plan.blocks):
            self.ask_some()
            for actor in self.actors:
                actor.act(self)
            self.step()
        for _ in range(DRAIN_BLOCKS):
            self.step()
            if not self._waiting and not self.ledger.pending and self._is_resolved():
                break

    def step(self) -> MadeBlock:
        """Settlements that wait, a block, and what follows from it."""
        for one in [one for one in self._waiting if one.height <= self.ledger.height]:
            self._waiting.remove(one)
            self._settle(one.signer, one.call, one.tries)
        return self.make_block()

    def make_block(self) -> MadeBlock:
        """A block; who is drawn onto a committee looks."""
        block = self.ledger.make_block()
        for event in block.iterate_events():
            match event:
                case ChallengeDrawn() | ChallengeContested():
                    self.duty.take_seats(event.challenge)
                case AuditDrawn():
                    self._answer_audit(self._by_key[event.worker])
                    self.duty.take_seats(event.audit)
            for listen in self.listeners:
                listen(event)
        self.duty.go_on()
        for one in self.validators:
            self.parties[one.name].spend("node", self.plan.node_cost)
        return block

    def ask_some(self) -> None:
        """The plan's requests of a block, of all clients in turn, `batch` of them over one path."""
        batch = self.plan.batch
        for number in range(self.plan.requests // batch):
            client = self.clients[number % len(self.clients)]
            self.serve(self.get_session(client.name), self.draw_path(), [self.draw_lengths() for _ in range(batch)])

    def draw_lengths(self, *, is_own: bool = False) -> Lengths:
        """As people ask; by a chance of its own where an actor asks, so that it does not move the others' requests."""
        rng = self._own if is_own else self._lengths
        prompt, answer = (
            round(rng.lognormvariate(math.log(median), SIGMA)) for median in (PROMPT_MEDIAN, ANSWER_MEDIAN)
        )
        scale = self.plan.scale
        return Lengths(max(4, min(PROMPT_MAX, prompt)) * scale, max(2, min(ANSWER_MAX, answer)) * scale)

    def draw_path(self) -> list[SimulatedWorker]:
        """A worker for each stage. Chance does not depend on who may serve: so two runs differ where actors do."""
        path = []
        for stage in range(self.plan.stages):
            order = [(self._paths.random(), one) for one in self.workers if one.stage == stage]
            ranked = [one for _, one in sorted(order, key=lambda pair: pair[0])]
            path.append(next((one for one in ranked if self.is_working(one)), ranked[0]))
        return path

    def draw_own_path(self) -> list[SimulatedWorker]:
        """A worker for each stage, by a chance of its own: drawing it does not move the others' paths."""
        path = []
        for stage in range(self.plan.stages):
            ready = [one for one in self.workers if one.stage == stage and self.is_working(one)]
            path.append(self._own.choice(ready or [one for one in self.workers if one.stage == stage]))
        return path

    def read_inference_params(self) -> InferenceParams:
        """The module's parameters in force."""
        return inference.params.read(self.ledger.state)

    def read_worker(self, worker: SimulatedWorker) -> inference.Worker:
        """The worker as the chain knows it."""
        found = inference.workers.read(self.ledger.state, worker.account.worker_key.public_key)
        assert found is not None, "it is registered"
        return found

    def compute_worth(self, lengths: Lengths) -> int:
        """What an answer is worth to whoever asks: its price."""
        tokens = lengths.prompt * self.plan.prefill_price + lengths.answer * self.plan.decode_price
        return self.plan.layers * tokens

    def is_working(self, worker: SimulatedWorker) -> bool:
        """Whether a client that looks at the chain would take it."""
        found = inference.workers.read(self.ledger.state, worker.account.worker_key.public_key)
        if found is None or found.status != WorkerStatus.ACTIVE:
            return False
        return inference.read_jail(self.ledger.state, found.operator) <= self.ledger.height

    def serve(
        self,
        session: OpenedSession,
        path: Sequence[SimulatedWorker],
        requests: Sequence[Lengths],
        given: Sequence[Conduct | None] = (),
        *,
        is_wanted: bool = True,
    ) -> None:
        """Requests are served over a path, each stage as it pleases (or as `given` says), and settled.

        One is settled by its last stage, several by a statement that the client brings. An answer `is_wanted` if it is
        worth its price to who asks; with windows that no model computed it is worthless.
        """
        conducts = tuple(
            tuple(self._serve_one(worker, one, conduct) for worker, conduct in zip(path, given or _FREE, strict=False))
            for one in requests
        )
        for lengths, chosen in zip(requests, conducts, strict=True):
            if is_wanted and not any(one.bad_permille for one in chosen):
                self.parties[session.client.name].worth += self.compute_worth(lengths)
        stages = tuple(self._make_stage(one) for one in path)
        keys = [one.account for one in path]
        signing, genesis = session.client.session_key, self.ledger.genesis
        call: calls.Settle | calls.SettleStatement
        if len(requests) == 1:
            order = make_order(genesis, session, stages, requests[0])
            settled, call = compute_request_id(order), make_settle(order, requests[0], signing, keys)
            settler = keys[-1]
        else:
            statement = make_statement(genesis, session, stages, requests)
            settled, call = compute_statement_id(statement), make_settle_statement(statement, signing, keys)
            settler = session.client
        self.served[settled] = ServedWork(tuple(requests), conducts)
        self.requests += len(requests)
        self._settle(settler.account, call, 0)

    def look(self, challenge_id: bytes, challenge: Challenge) -> DrawnWindow:
        """What a verifier sees that looks at a challenged window. An audit shows what the worker does of any work."""
        worker = self._by_key[challenge.worker]
        start, end = self.plan.get_range(worker.stage)
        found = self.served.get(challenge.request)
        if found is None:
            conduct, positions = worker.policy.choose_audit(), WINDOW_POSITIONS
        else:
            number, position = found.locate(challenge)
            conduct = found.conducts[number][challenge.stage]
            positions = min(found.requests[number].positions, position // WINDOW_POSITIONS * WINDOW_POSITIONS + 32)
        dice = hashlib.blake2b(challenge_id, digest_size=8).digest()
        is_bad = int.from_bytes(dice[:4], "big") % PERMILLE_WHOLE < conduct.bad_permille
        is_seen = is_bad and int.from_bytes(dice[4:], "big") % PERMILLE_WHOLE < self.plan.detection_permille
        return DrawnWindow(
            worker=worker.account.account,
            is_bad=is_bad,
            is_seen=is_seen,
            opens=conduct.opens_bad or not is_bad,
            cost=(end - start) * positions * self.plan.prefill_cost,
        )

    def _answer_audit(self, worker: SimulatedWorker) -> None:
        start, end = self.plan.get_range(worker.stage)
        honest = (end - start) * WINDOW_POSITIONS * self.plan.prefill_cost
        worker.party.spend("audits", worker.policy.choose_audit().compute_cost(honest))

    def _serve_one(self, worker: SimulatedWorker, lengths: Lengths, given: Conduct | None) -> Conduct:
        """What a worker does of a request, at its own expense."""
        conduct = worker.policy.choose(worker.served) if given is None else given
        worker.served += 1
        start, end = self.plan.get_range(worker.stage)
        worker.party.spend("computing", conduct.compute_cost((end - start) * self._cost_of(lengths)))
        return conduct

    def _make_stage(self, worker: SimulatedWorker) -> PathStage:
        key, (start, end) = worker.account.worker_key.public_key, self.plan.get_range(worker.stage)
        return PathStage(key, start, end, self.plan.prefill_price, self.plan.decode_price)

    def _cost_of(self, lengths: Lengths) -> int:
        """What a layer of a request costs to compute, in nmyl."""
        return lengths.prompt * self.plan.prefill_cost + lengths.answer * self.plan.decode_cost

    def _settle(self, signer: bytes, call: calls.Settle | calls.SettleStatement, tries: int) -> None:
        def note(receipt: Receipt) -> None:
            error = None if receipt.error is None else receipt.error.error
            if error == "ExposureExceeded" and tries < SETTLE_TRIES:
                self._waiting.append(_Unsettled(signer, call, self.ledger.height + RETRY_BLOCKS, tries + 1))
            elif isinstance(call, calls.Settle):
                self._note_promise(signer, call, is_paid=error is None)

        self.ledger.submit(signer, call, on_receipt=note)

    def _note_promise(self, signer: bytes, call: calls.Settle, *, is_paid: bool) -> None:
        """Who is not paid looks for the order that was, on chain, and reports the client that promised both."""
        paid = self._paid.setdefault(call.order.order.session, [])
        if is_paid:
            paid.append(call.order)
            return
        promise = make_promise(call.order.order)
        other = next((one for one in paid if is_conflict(promise, make_promise(one.order))), None)
        if other is not None:
            report = ReportDoublePromise(call.order, call.voucher, PromisedByOrder(other))
            self.ledger.submit(signer, report)

    def _submit(self, name: str, call: Any) -> None:
        self.ledger.submit(self.parties[name].account.account, call)

    def _next_nonce(self, account: bytes) -> int:
        waiting = sum(one.signer == account for one in self.ledger.pending)
        return self.ledger.read_nonce(account) + waiting

    def _is_resolved(self) -> bool:
        return all(not self.read_worker(one).open_stages for one in self.workers)
