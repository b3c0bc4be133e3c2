"""The sessions for one model and price: the one that takes orders, and those that only wait for their orders to end.

Pure bookkeeping with the rules of when to top up and when to replace a session; the pool carries them out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from node.client.escrow_bank import NewSession, SessionSight, SessionTerms
from node.client.escrow_session import EscrowSession, EscrowSlice
from proto_specs.ed25519 import SigningKey

ROTATE_SHARE = 8
"""A session is replaced in the last eighth of its time."""
REQUESTS_SPARE = 16
"""It is replaced when it takes fewer requests than this, or than a sixteenth of what it was opened for."""


@dataclass(frozen=True, slots=True)
class PoolRules:
    """How much to escrow and for how long.

    A session is opened with `asks_target` times the largest ask (or `deposit`, if that is more), and topped up to it
    when less than half of it can still be promised; 1 never tops up ahead, nor does a pool that `looks_ahead` at
    nothing. `idle_s`: unused for so long, it is closed.
    """

    asks_target: int = 8
    deposit: int = 0
    requests_max: int = 10_000
    idle_s: float = 600.0
    looks_ahead: bool = True


@dataclass(slots=True)
class HeldSession:
    """A session of ours that is open, as far as we know."""

    opened: NewSession
    book: EscrowSession
    used_s: float
    funded_s: float
    height: int
    looked_s: float
    settled: int = 0
    is_unsure: bool = False
    """An order ended with a voucher, but before everything was signed: perhaps nobody can settle it."""
    is_lost: bool = False
    """The chain takes no more orders in it."""

    @property
    def is_resting(self) -> bool:
        """Whether nothing of it runs, and the chain shows every settlement."""
        return not self.book.running and self.settled >= self.book.vouched

    @property
    def ends_by_itself(self) -> bool:
        """Whether it closes when its last order settles."""
        return self.book.requests_left < 1 and not self.book.running and not self.is_unsure

    @property
    def expiry_height(self) -> int:
        """The block in which it ends by itself."""
        return self.opened.expiry_height

    def is_usable(self, terms: SessionTerms) -> bool:
        """Whether workers take its orders now."""
        return not self.is_lost and self.expiry_height - self.height > terms.notice_blocks

    def is_due(self, terms: SessionTerms) -> bool:
        """Whether to replace it while it is still good."""
        spare_blocks = (self.expiry_height - self.opened.height) // ROTATE_SHARE
        is_ending = self.expiry_height - self.height <= terms.notice_blocks + spare_blocks
        spare = min(REQUESTS_SPARE, self.opened.requests_max // 16)
        is_dead = 2 * self.book.dead > self.book.promisable
        return is_ending or is_dead or self.book.requests_left <= spare

    def observe(self, sight: SessionSight | None) -> None:
        """What the chain shows of it. None: it shows no such session (any more)."""
        if sight is None:
            self.is_lost = True
            return
        self.height = max(self.height, sight.height)
        self.book.observe(sight.promisable)
        self.settled = max(self.settled, self.opened.requests_max - sight.requests_left)
        self.is_lost = self.is_lost or not sight.is_open


@dataclass(frozen=True, slots=True)
class SessionOrder:
    """What an order needs of its session: the key that signs it and its slice. `funded_s`: when it last got money."""

    session: bytes
    key: SigningKey
    slice: EscrowSlice
    funded_s: float


@dataclass(slots=True)
class Purse:
    """Sessions of one (model, max_price). `largest` is the dearest order so far."""

    model: bytes
    max_price: int
    largest: int = 0
    held: HeldSession | None = None
    retired: list[HeldSession] = field(default_factory=list)

    def get_target(self, rules: PoolRules, price: int = 0, waiting: int = 0) -> int:
        """Nmyl that a session should be able to promise. `waiting` requests give what they left of it back later."""
        return max(rules.deposit, (rules.asks_target + waiting) * self.largest, price)

    def get_usable(self, terms: SessionTerms) -> HeldSession | None:
        """The session that takes orders."""
        return self.held if self.held is not None and self.held.is_usable(terms) else None

    def is_low(self, rules: PoolRules) -> bool:
        """Whether to top up before it runs dry."""
        if self.held is None or rules.asks_target < 2:
            return False
        return 2 * self.held.book.unpromised < self.get_target(rules)

    def retire(self) -> None:
        """No new orders go to the present session."""
        if self.held is not None:
            self.retired.append(self.held)
            self.held = None
