"""Shows a request on a terminal as it happens: path, escrow, the streaming answer, then the chain's account of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.status import Status
from rich.table import Table

from consensus.runtime.inference.state import Challenge, Request, Session, SessionStatus, StageStatus
from inference.model.tokenizer.tokenizer import Tokenizer
from node.cli.amounts import format_distance, format_myl
from node.cli.connect import DEFAULT_RPC
from node.client.answer import Generated, Move, RequestOutcome, Resolution
from node.client.following import Happening, RequestDone, SettlementSeen, StageDrawn, StageResolved
from node.client.paid_answer import PaidAnswer
from node.client.payment_rows import PaymentRows, Row
from node.client.purse import HeldSession
from proto_specs.limits import WINDOW_POSITIONS
from proto_specs.ss58 import encode_address
from proto_specs.types.calls import Outcome
from proto_specs.types.wire import FinishReason

_PEER_NAME = re.compile(r"^stage \d+ \(worker [0-9a-f]+\) ")
UNFINISHED = "stopped"
"""What stands for an answer's finish reason while it has none."""


@dataclass
class Speed:
    """The times of tokens, in seconds after the prompt was sent."""

    times_s: list[float] = field(default_factory=list)

    @property
    def first_token_s(self) -> float:
        """Time to first token; 0 before the first."""
        return self.times_s[0] if self.times_s else 0.0

    @property
    def tokens_per_s(self) -> float:
        """Decode speed: the tokens after the first, divided by their time; 0 for fewer than two tokens."""
        span_s = self.times_s[-1] - self.times_s[0] if len(self.times_s) > 1 else 0.0
        return (len(self.times_s) - 1) / span_s if span_s else 0.0


class InferenceScreen:
    """Prints an answer, and as a `Report` what the chain makes of it. `names` are readable names of addresses."""

    def __init__(
        self, console: Console, tokenizer: Tokenizer, prefix: int, names: Mapping[str, str], rpc: str = DEFAULT_RPC
    ) -> None:
        self._console = console
        self._query = "myelin query {} {}" + ("" if rpc == DEFAULT_RPC else f" --rpc {rpc}")
        self._progress: Status | None = None
        self._text = tokenizer.stream()
        self._tokenizer = tokenizer
        self._prefix = prefix
        self._names = names
        self._operators: dict[int, str] = {}
        self.answer = ""
        self.finish = UNFINISHED
        self.speed = Speed()
        self.session: bytes | None = None
        self.first_height = 0

    def begin_answer(self) -> None:
        """Another answer is about to come."""
        self._text, self.answer, self.speed = self._tokenizer.stream(), "", Speed()
        self.finish = UNFINISHED

    @contextmanager
    def show_progress(self, what: str) -> Iterator[None]:
        """Say on a terminal what is waited for, until the block or the wait ends."""
        self._progress = self._console.status(what)
        try:
            with self._progress:
                yield
        finally:
            self._progress = None

    def show_start(self, answer: PaidAnswer, session: HeldSession | None) -> None:
        """The path, and the session that pays. It may be an older one."""
        parts = []
        for number, one in enumerate(answer.workers):
            self._operators[number] = self.name(one.operator)
            parts.append(f"{self._operators[number]} [dim](layers {one.start}-{one.end - 1})[/dim]")
        self._line("path", " → ".join(parts))
        if session is not None and self.session != session.opened.session:
            self.session, self.first_height = session.opened.session, session.opened.height
            self._line("escrow", f"{format_myl(session.opened.deposit)} in block {session.opened.height}")
        self._console.print()
        if self._progress is not None:
            self._progress.update("computing the prompt")

    def show_moves(self, answer: PaidAnswer) -> None:
        """The workers that were lost on the way, and who went on."""
        if answer.moves and self.finish == UNFINISHED:
            self._console.print("\n")
        for move in answer.moves:
            self._line("lost", self._tell_move(answer, move))

    def _tell_move(self, answer: PaidAnswer, move: Move) -> str:
        def name(worker: bytes) -> str:
            return self.name(answer.known[worker].operator)

        lost = f"{name(move.worker)} after {move.tokens} tokens ({shorten_reason(move.reason)})"
        if not move.resumed_s:
            return f"{lost}; nobody went on"
        who = " and ".join(name(one) for one in move.successors) or "nobody else"
        goes = "go" if len(move.successors) > 1 else "goes"
        return f"{lost}; {who} {goes} on, {move.pause_s:.1f} s later"

    def show_cost(self, answer: PaidAnswer) -> None:
        """What was promised, and how to see the verification."""
        if self.finish == UNFINISHED:
            if not answer.moves:
                self._console.print("\n")
            self._line("stopped", f"after {len(self.speed.times_s)} tokens")
        owed = [one for one in answer.parts if one.cost_nmyl]
        if not owed:
            self._line("request", f"0x{answer.request.hex()} costs nothing")
        for one in owed:
            request = f"0x{one.request.hex()}"
            see = f"its verification: `{self._query.format('request', request)}`"
            self._line("request", f"{request} costs {format_myl(one.cost_nmyl)}; {see}")

    def show_rest(self, session: bytes, found: Session | None, fee: int | None) -> None:
        """What becomes of the rest of the escrow, once the session was left. None: the chain has no such session.

        `fee` is what the notice cost, as far as it is known.
        """
        if found is None or found.status == SessionStatus.CLOSED:
            return
        rest = format_myl(found.escrow)
        if found.status == SessionStatus.CLOSING:
            cost = "" if fee is None else f"; the notice cost {format_myl(fee)}"
            self._line("escrow", f"{rest} is left, and comes back in block {found.close_height}{cost}")
            return
        see = f"`{self._query.format('session', f'0x{session.hex()}')}`"
        self._line("escrow", f"{rest} is left in the open session: the next run closes it; {see}")

    def show_pending(self, session: bytes, count: int) -> None:
        """How many answers the chain has not resolved yet, and where to see it."""
        what = "1 answer is" if count == 1 else f"{count} answers are"
        self._line("session", f"{what} not verified yet; see `{self._query.format('session', f'0x{session.hex()}')}`")

    def show_outcome(self, number: int, outcome: RequestOutcome) -> None:
        """One line about an earlier answer."""
        colour = {Resolution.VERIFIED: "green", Resolution.PAID: "green", Resolution.SLASHED: "red"}
        word = colour.get(outcome.resolution, "yellow")
        returned = f", {format_myl(outcome.returned)} returned" if outcome.returned else ""
        stated = "" if outcome.statement is None else f", in statement 0x{outcome.statement.hex()}"
        paid = f"{format_myl(outcome.price)}{returned}{stated}"
        self._line(f"answer {number}", f"[{word}]{outcome.resolution}[/{word}], {paid}")

    def __call__(self, happening: Happening) -> None:
        """Show an event."""
        match happening:
            case SettlementSeen():
                found = happening.found
                self._operators = {at: self.name(one.operator) for at, one in enumerate(found.stages)}
                self._line("request", f"0x{happening.request.hex()}")
                many = "" if found.requests is None else f"{found.requests} requests at once, "
                self._line("settled", f"{many}block {found.settled_height}, root 0x{found.root.hex()}")
                if found.continues is not None:
                    self._line("continues", f"0x{found.continues.hex()}, from position {_count_settled(found)} on")
                billed = min(found.prompt_tokens, found.positions) - _count_settled(found)
                self._line("price", f"{format_myl(found.price)} for {billed} + {found.tokens} tokens")
            case StageDrawn():
                self._show_draw(happening.stage, happening.challenge)
            case StageResolved():
                self._show_resolved(happening)
            case RequestDone():
                self._line("resolved", f"block {happening.height}, {format_myl(happening.found.returned)} returned")

    def name(self, account: bytes) -> str:
        """An account's name, or its shortened address."""
        address = encode_address(account, self._prefix)
        return self._names.get(address, f"{address[:8]}…{address[-4:]}")

    def show_token(self, token: Generated) -> None:
        """A token of the answer."""
        if self._progress is not None:
            self._progress.stop()
        self.speed.times_s.append(token.seconds)
        if not self._tokenizer.is_eos(token.token):
            self._write(self._text.push(token.token))
        if token.finish is not FinishReason.NONE:
            self._write(self._text.finish())
            self._console.print("\n")
            speed, reason = self.speed, token.finish.name.lower()
            self.finish = reason
            numbers = f"first token {speed.first_token_s:.2f} s, {speed.tokens_per_s:.1f} tok/s"
            self._line("generated", f"{len(speed.times_s)} tokens ({reason}), {numbers}")

    def _write(self, text: str) -> None:
        self.answer += text
        self._console.out(text, end="", highlight=False)
        self._console.file.flush()

    def _show_draw(self, stage: int, challenge: Challenge) -> None:
        committee = ", ".join(self.name(one.verifier) for one in challenge.committee)
        who = self._operators.get(stage, f"stage {stage}")
        what = f"window {challenge.window}" if challenge.point is None else f"point {challenge.point} of all requests"
        text = f"stage {stage} ({who}), {what}, by the beacon of block {challenge.drawn_height}"
        self._line("drawn", f"{text}; to be recomputed by {committee}")

    def _show_resolved(self, one: StageResolved) -> None:
        who = self._operators.get(one.stage, f"stage {one.stage}")
        if one.challenge is None or one.challenge.outcome is None:
            self._line("paid", f"stage {one.stage} ({who}): not drawn, paid unverified")
            return
        outcome = Outcome(one.challenge.outcome)
        colour = {Outcome.PASS: "green", Outcome.FAIL: "red"}.get(outcome, "yellow")
        distance = format_distance(one.challenge.distance_ppb)
        threshold = format_distance(one.challenge.threshold_ppb)
        measured = f"distance {distance}, threshold {threshold}"
        end = {StageStatus.SLASHED: ", slashed", StageStatus.REFUNDED: ", refunded"}.get(one.status, "")
        self._line("verdict", f"stage {one.stage} ({who}): [{colour}]{outcome.name}[/{colour}]{end}, {measured}")

    def _line(self, label: str, text: str) -> None:
        self._console.print(f"[bold]{label:>10}[/bold]  {text}", highlight=False, soft_wrap=True)


def _count_settled(found: Request) -> int:
    """Positions that the request before is paid for."""
    return found.first_window * WINDOW_POSITIONS


def shorten_reason(reason: str) -> str:
    """Why a worker was lost, in few words: without its place, and without what the network said of it."""
    return _PEER_NAME.sub("", reason).partition(" (")[0].partition(": ")[0]


def show_statement(console: Console, statement: PaymentRows, names: Mapping[str, str]) -> None:
    """Print the table of payments, with rows of the same kind added up, and the slashes."""
    table = Table("who", "as", "what for", "block", "amount", title="Who got what, read from the chain", box=None)
    table.columns[4].justify = table.columns[3].justify = "right"
    for rows in _group_rows(statement.rows):
        first, last = rows[0], rows[-1]
        times = f" x {len(rows)}" if len(rows) > 1 else ""
        blocks = str(first.height) if first.height == last.height else f"{first.height}-{last.height}"
        amount = format_myl(sum(row.amount for row in rows))
        table.add_row(names.get(first.who, first.who), first.role, first.what_for + times, blocks, amount)
    console.print()
    console.print(table)
    for row in statement.slashes:
        who = names.get(row.who, row.who)
        console.print(f"[red]slashed[/red]  {who}: {format_myl(row.amount)}, because {row.what_for}", highlight=False)


def _group_rows(rows: Iterable[Row]) -> list[list[Row]]:
    """Rows of the same account, role and purpose together, in order of their first row."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.who, row.role, row.what_for), []).append(row)
    return list(groups.values())
