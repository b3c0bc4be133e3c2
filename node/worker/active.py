"""A running request on a worker: drives the stage's state machine, performs its effects, and enforces deadlines."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import replace

import trio

from inference.errors import ModelError
from inference.serving.events import (
    Compute,
    Computed,
    Conclude,
    Drafted,
    Finished,
    GiveUp,
    PromptKnown,
    Retain,
    Rewind,
    Speculate,
    StageEffect,
    Stop,
    StopComputing,
    SubmitSettlement,
    ToClient,
    ToDownstream,
    ToFirst,
    ToUpstream,
    read_failure_code,
)
from inference.serving.setup import StageSetup
from inference.serving.stage import StageRequest
from node.client.link import FrameLink
from node.p2p.errors import NetworkError
from node.worker.archive import RequestArchive
from node.worker.compute import Answer, ComputeLoop
from node.worker.deadlines import RequestDeadlines
from node.worker.drafting import NO_DRAFTS, DraftSource
from node.worker.ends import STOP_CODES, classify_error, conclude_alone, get_hold_s, make_farewells, name_lost
from node.worker.held import HELD_S
from node.worker.inbox import DeadlineMoved, LinkGone, RequestInbox, Rest
from node.worker.joins import SETTLED_BY_OTHERS_S
from node.worker.path_peers import PathPeers, StrayFrame, ToPeer
from node.worker.settling import settle
from proto_specs.types.calls import Settle
from proto_specs.types.request import Order, compute_positions
from proto_specs.types.wire import (
    Accepted,
    Failed,
    FailureCode,
    Frame,
    OutputLeaf,
    Ping,
    Pong,
    PrefixRoots,
    RootsFrame,
    Rows,
    Token,
)

logger = logging.getLogger("myelin.worker")

INBOX_EVENTS_MAX = 2048

_Now = Compute | PromptKnown | Speculate | ToPeer
_Event = Frame | Computed | Drafted | Stop | Conclude | GiveUp | LinkGone | DeadlineMoved | Rest


class ActiveRequest:
    """One request on this stage."""

    def __init__(
        self,
        setup: StageSetup,
        peers: PathPeers,
        compute: ComputeLoop,
        archive: RequestArchive,
        drafts: DraftSource = NO_DRAFTS,
    ) -> None:
        self._windows = archive.open_windows(setup)
        self._setup = setup = replace(setup, store=self._windows, drafts_max=drafts.drafts_max)
        self.machine = StageRequest(setup)
        self.request = self.machine.request
        self.is_settling = False  # the request ended with windows that all have signed: a settlement follows
        self._peers = peers
        self._compute = compute
        self._drafts = drafts.open(setup.order.order, self._put)
        self._archive = archive
        self._upstream: FrameLink | None = None
        self._inbox = RequestInbox[_Event](INBOX_EVENTS_MAX, self._take_now)
        self._is_done = self._is_owed_other = self._is_frozen = self._is_over = False
        self._computed = 0
        self._deadlines = RequestDeadlines(self.order, self.machine.owed_by_client, trio.current_time())
        self._given_up: tuple[FailureCode, bool] | None = None  # the code, and whether the failure is this stage's
        self._conclusion: Conclude | None = None
        self._concluded = trio.Event()

    @property
    def order(self) -> Order:
        """The client's order."""
        return self._setup.order.order

    @property
    def stage(self) -> int:
        """This stage's position in the path."""
        return self._setup.stage

    @property
    def is_last(self) -> bool:
        """Whether this is the path's last stage, which settles."""
        return self.stage == len(self.order.path) - 1

    async def open(self, before: bytes | None = None) -> None:
        """Read the request's rules and reserve its memory. Raises a ModelError as `ComputeLoop.open`.

        The memory of the request `before` is taken over, with the rows that the setup keeps of it; when it is gone
        meanwhile, all is computed again.
        """
        setup = self._setup
        if before is not None and setup.kept is not None:
            try:
                await self._compute.adopt(before, self.request, self.order, self._on_answer)
                return
            except ModelError as error:
                logger.info("request %s is computed again: %s", self._short, error)
            self._setup = setup = replace(setup, kept=None)
            self.machine = StageRequest(setup)
        await self._compute.open(self.request, self.order, setup.prompt, setup.grammar, self._on_answer)

    async def run(self) -> None:
        """Handle events until the request finishes or fails; then free everything."""
        try:
            await self._perform(ToClient(Accepted(self.request)))
            async with self._drafts.running():
                while not self._is_done:
                    effects = self._react(await self._next_event())
                    if self.machine.is_done:
                        self._inbox.close()  # whatever still comes is not kept while the end is written to disk
                    for effect in effects:
                        if not self._is_done:
                            await self._perform(effect)
            if self._given_up is not None and not self.machine.is_finished:
                await self._conclude_alone(get_hold_s(*self._given_up))
            elif self.is_settling:
                wait_s = SETTLED_BY_OTHERS_S + (HELD_S if self._setup.batched else 0.0)
                self._archive.join_later(self.machine.get_part(), wait_s)
        finally:
            self._is_over = True
            self._inbox.close()
            if self.is_settling or not self.machine.prefix_windows:
                self._windows.delete()  # else nobody has kept what others may settle: the next start does
            await self._compute.close(self.request)

    def freeze(self) -> None:
        """Another order is about to take over the memory: nothing that comes is handled until this one is concluded."""
        self._is_frozen = True

    def conclude(self, told: Conclude) -> bool:
        """Another order goes on from here: the windows that count are known. False for a request that is over."""
        if self._is_over or self.machine.is_finished:
            return False
        self._conclusion = told
        self._concluded.set()
        self._put(told)
        return True

    def abandon(self, message: str) -> None:
        """The order that was to go on from here was not taken: as if a stage was lost."""
        self.give_up(FailureCode.MOVED, message)

    async def _conclude_alone(self, hold_s: float) -> None:
        """Wait for an order that goes on from here; if none comes, what all have signed is settled."""
        self._inbox.close()
        part, kept = self.machine.get_part(), self.machine.get_prefix_record()
        if kept is not None:  # the others of the path may settle it at once, and it may be drawn
            with contextlib.suppress(OSError):  # the end tries again, and tells
                await self._archive.retain(kept)
                self._archive.join_later(part, hold_s + SETTLED_BY_OTHERS_S)
        with trio.move_on_after(hold_s):
            await self._concluded.wait()
        told = self._conclusion
        if told is None:
            told = conclude_alone(self.machine, is_last=self.is_last)
        else:
            self._archive.leave(self.request)
        self._is_done = False
        for effect in self.machine.handle(told):
            await self._perform(effect)
        self._is_done = True

    def post(self, frame: Frame, link: FrameLink) -> None:
        """Take a frame of a neighbour or the client. Raises StrayFrame when it comes from the wrong peer."""
        if not self._peers.may_send(self.stage, frame, link):
            raise StrayFrame(f"request {self._short}: {type(frame).__name__} from a peer that may not send it")
        if isinstance(frame, Ping):
            with contextlib.suppress(NetworkError):
                progress = (*self.machine.progress, self._compute.steps, self._compute.pass_ms)
                link.send(Pong(self.request, frame.nonce, *progress))
            return
        if isinstance(frame, Rows | OutputLeaf | RootsFrame | PrefixRoots):
            self._upstream = link
        if isinstance(frame, Failed):
            self._on_failed(frame, link)
            return
        if isinstance(frame, Rows):
            try:  # before the stage sees them, so that what cannot be computed is not countersigned
                self._compute.check(frame.payload)
            except ModelError as error:
                self._put(GiveUp(FailureCode.BAD_INPUT, str(error), self.stage - 1 if self.stage else None))
                return
        self._put(frame)

    def stop(self, code: FailureCode, message: str) -> None:
        """End the request early: what the client vouched for is settled, the rest is lost."""
        self._put(Stop(code, message))

    def give_up(self, code: FailureCode, message: str) -> None:
        """End the request now, and tell everybody along the path."""
        self._put(GiveUp(code, message))

    def get_progress(self) -> tuple[int, int]:
        """(positions computed, the most there may be)."""
        return self._computed, compute_positions(self.order.prompt_tokens, self.order.tokens_max)

    def link_lost(self, link: FrameLink) -> None:
        """A link is gone. Frames that came over it before are handled first: they may be all that was needed."""
        if link in (self._peers.client, self._peers.downstream, self._upstream, self._peers.first):
            self._put(LinkGone(link))

    @property
    def _short(self) -> str:
        return self.request.hex()[:12]

    def _put(self, event: _Event) -> None:
        try:
            self._inbox.put(event)
        except trio.WouldBlock:
            logger.warning("request %s: %d events behind, giving up", self._short, INBOX_EVENTS_MAX)
            self._inbox.close()

    def _take_now(self, event: _Event) -> _Event | None:
        """Handle what every token costs without switching to the task; anything else, and the rest, is the task's."""
        if not isinstance(event, Rows | Computed | Drafted | Token):
            return event
        self._deadlines.note_heard(trio.current_time())
        effects: list[StageEffect] = []
        try:
            effects = self._react(event)
            while effects and not self._is_done and isinstance(first := effects[0], _Now):
                del effects[0]
                self._perform_now(first)
        except Exception as error:  # a bug, which ends this request and not who put the event
            return Rest(effects, error)
        return Rest(effects) if effects or self._is_done or self.machine.is_done or self._is_owed_other else None

    async def _next_event(self) -> _Event:
        try:
            with trio.fail_at(self._deadlines.get_next_s()):
                event = await self._inbox.get()
        except trio.TooSlowError:
            return self._deadlines.pass_next(trio.current_time()) or DeadlineMoved()
        except trio.ClosedResourceError:
            return GiveUp(FailureCode.NO_CAPACITY, "too many frames at once")
        self._deadlines.note_heard(trio.current_time())
        return event

    def _react(self, event: _Event) -> list[StageEffect]:
        match event:
            case GiveUp():
                effects: list[StageEffect] = [event]
            case DeadlineMoved():
                effects = []
            case Rest():
                if event.error is not None:
                    raise event.error
                effects = event.effects
            case _ if self._is_frozen and not isinstance(event, Conclude):
                effects = []
            case LinkGone():
                effects = self._on_link_gone(event.link)
            case _:
                effects = self.machine.handle(event)
        self._is_owed_other = self._deadlines.note_owed(self.machine.owed_by_client, trio.current_time())
        return effects

    def _on_link_gone(self, link: FrameLink) -> list[StageEffect]:
        if link is self._peers.client:
            is_end = self.stage == 0 or self.is_last
            return self.machine.handle(Stop(FailureCode.CANCELLED, "the client went away")) if is_end else []
        lost: int | None = None
        if link is self._peers.downstream:
            lost = self.stage + 1
        elif link is self._upstream and self.machine.needs_upstream:
            lost = self.stage - 1
        elif link is self._peers.first and self.machine.needs_first:
            lost = 0
        if lost is None:
            return []
        key = self.order.path[lost].worker.hex()[:12]
        return [GiveUp(FailureCode.NEIGHBOUR_LOST, f"stage {lost} (worker {key}) went away", lost)]

    def _on_failed(self, frame: Failed, link: FrameLink) -> None:
        """The client's end of a request stops the first and the last stage; the first tells the rest of the path."""
        code = read_failure_code(frame.code)
        if link is self._peers.client:
            if code is FailureCode.MOVED:
                self._put(GiveUp(code, frame.message, frame.lost))
            elif self.stage == 0 or self.is_last:
                self._put(Stop(FailureCode.CANCELLED, frame.message))
        elif self.stage and link.peer_id == self._peers.peer_ids[self.stage - 1] and code in STOP_CODES:
            if not self.is_last:
                self._put(Stop(code, frame.message))
            elif self._deadlines.note_stop_heard(Stop(code, frame.message), trio.current_time()):
                self._put(DeadlineMoved())
        else:
            self._put(frame)

    def _on_answer(self, answer: Answer) -> None:
        if isinstance(answer, ModelError):
            self._put(GiveUp(classify_error(answer), str(answer)))
        else:
            self._computed = answer.start + answer.count - len(answer.draft)
            self._put(answer)

    async def _perform(self, effect: StageEffect) -> None:
        try:
            match effect:
                case Compute() | PromptKnown() | Speculate() | ToClient() | ToUpstream() | ToDownstream() | ToFirst():
                    self._perform_now(effect)
                case Rewind():
                    if self._is_frozen:
                        return
                    await self._compute.rewind(self.request, effect.position)
                case StopComputing():
                    self._deadlines.note_stopped(trio.current_time())
                    await self._compute.close(self.request)
                case Retain():
                    await self._archive.retain(effect.record)
                    self.is_settling = True
                case SubmitSettlement():
                    await self._settle(effect.call)
                case Finished():
                    self._is_done = True
                    logger.info("request %s: finished at stage %d", self._short, self.stage)
                case GiveUp():
                    self._give_up(effect)
        except OSError as error:
            logger.error("request %s: cannot be kept on disk: %s", self._short, error)
            self._give_up(GiveUp(FailureCode.INTERNAL, "the worker cannot write to its disk"))

    def _perform_now(self, effect: _Now) -> None:
        if isinstance(effect, PromptKnown | Speculate):
            self._drafts.put(effect)
        elif not isinstance(effect, Compute):
            self._send(effect)
        elif not self._is_frozen:  # the memory may be with another order
            self._compute.submit(self.request, effect)

    def _send(self, effect: ToPeer) -> None:
        """A neighbour that takes no frames ends the request. A client that takes none is detected by its reader."""
        match effect:
            case ToFirst() if self.stage == 0:
                self._put(effect.frame)
                return
            case ToDownstream():
                link = self._peers.downstream
            case ToFirst():
                link = self._peers.first
            case ToUpstream() if self.stage:
                link = self._upstream
            case _:
                link = self._peers.client
        assert link is not None, "the path has the stages that the machine sends to"
        try:
            link.send(effect.frame)
        except NetworkError as error:
            if link is not self._peers.client:
                lost = self.stage + 1 if link is self._peers.downstream else None
                self._give_up(GiveUp(FailureCode.NEIGHBOUR_LOST, str(error), lost))

    async def _settle(self, call: Settle) -> None:
        told = await settle(self._archive, call, batched=self._setup.batched and not self._peers.client.is_lost)
        if told is not None:
            with contextlib.suppress(NetworkError):  # it settles without the client as well
                self._peers.client.send(told)

    def _give_up(self, reason: GiveUp) -> None:
        self._is_done = True
        level = logging.INFO if reason.code is FailureCode.MOVED else logging.WARNING
        logger.log(level, "request %s: given up at stage %d: %s", self._short, self.stage, reason.message)
        lost = name_lost(reason.code, reason.lost, self.stage)
        self._given_up = reason.code, lost == self.stage
        told, down = make_farewells(self.request, reason, lost, self.stage)
        for link in (self._peers.client, self._upstream, self._peers.downstream, self._peers.first):
            if link is not None and not link.is_lost:
                with contextlib.suppress(NetworkError):  # it finds out by itself
                    link.send(down if link is self._peers.downstream else told)
