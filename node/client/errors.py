"""Failures of a transaction or a request. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from typing import TYPE_CHECKING

from proto_specs.errors import ExitStatus, MyelinError

if TYPE_CHECKING:
    from inference.serving.client import RequestFailed


class CallFailed(MyelinError):
    """The transaction is in a block, and its call was refused. `error` is the runtime's name for the reason."""

    def __init__(self, call: str, module: str, error: str) -> None:
        super().__init__(f"{call} failed: {module}.{error}")
        self.error = error


class NonceHeld(MyelinError):
    """Another process of the account is about to use the nonce. The message says for what."""


class TransactionLost(MyelinError):
    """The transaction did not make it into a block while it was valid."""


class InferenceRefused(MyelinError):
    """The request cannot be made, with nothing escrowed; or the chain tells no more of it. The message says which."""


class EscrowShort(MyelinError):
    """The account cannot escrow what a request may cost. `needed` and `free` are nmyl."""

    def __init__(self, needed: int, free: int) -> None:
        super().__init__(
            f"{needed} nmyl have to be escrowed and bonded, and the account has {free} nmyl free: transfer the "
            "difference and the fees to it, or ask for fewer tokens"
        )
        self.needed = needed
        self.free = free


class NobodyServes(MyelinError):
    """Every path that was tried failed before the first token; nothing is owed. `reasons` has one line a path.

    `is_busy`: all that was missing is capacity, so the same request may be served later.
    """

    exit_status = ExitStatus.WORKER_LOST

    def __init__(self, reasons: tuple[str, ...], is_busy: bool) -> None:
        advice = "try again in a moment" if is_busy else "try again, or at a higher price for other workers"
        super().__init__(f"no worker serves the request, nothing was paid: {'; '.join(reasons)}: {advice}")
        self.reasons = reasons
        self.is_busy = is_busy


class WorkersAway(MyelinError):
    """Some layers are served only by workers that could not be reached lately, or did not serve."""

    def __init__(self, workers: list[bytes]) -> None:
        named = ", ".join(one.hex()[:12] for one in workers)
        super().__init__(f"nobody else serves the layers of workers that failed lately: {named}; they are tried again")


class RequestLost(MyelinError):
    """A stage failed in mid-request. `cost` nmyl were promised for what came, and settle; the rest is not paid."""

    exit_status = ExitStatus.WORKER_LOST

    def __init__(self, failure: RequestFailed, request: bytes, session: bytes, cost: int) -> None:
        paid = f"{cost} nmyl were promised for what came" if cost else "nothing was promised"
        rest = f"{paid}, the rest of its slice returns when session 0x{session.hex()} closes"
        where = f"stage {failure.stage if failure.lost is None else failure.lost}"
        what = failure.message if failure.message.startswith(where) else f"{where}: {failure.message}"
        super().__init__(f"{what} ({failure.code.name}); {rest}")
        self.failure = failure
        self.request = request
        self.session = session
        self.cost = cost


class AskingEnded(MyelinError):
    """Whoever asks was told to end before the answer did. `cost` nmyl were promised for what came."""

    def __init__(self, cost: int) -> None:
        super().__init__(f"the answer was cut short, because its client ends: {cost} nmyl were promised for what came")
        self.cost = cost
