"""Who may hold an inbound connection: bounds per IP and in total, decided without IO so that tests need no socket.

A connection is *pending* from accept until its peer has proved who it is. When too many are pending the oldest one is
evicted rather than the newest refused: an honest handshake takes milliseconds, so idle sockets lose their place first
and cannot lock anybody out, not even others behind the same address.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from node.machine.rate import RateLimit

C = TypeVar("C")


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Bounds on inbound connections. `accepts_burst` may arrive at once per IP, `accepts_per_s` ever after."""

    connections_per_ip_max: int = 64
    pending_per_ip_max: int = 16
    pending_max: int = 128
    accepts_burst: int = 512
    accepts_per_s: float = 64.0
    tracked_ips_max: int = 4096


class ConnectionAdmission(Generic[C]):
    """Keeps the books of inbound connections of type C (any hashable)."""

    def __init__(self, limits: AdmissionLimits) -> None:
        self.limits: Final = limits
        self._pending: dict[C, str] = {}  # in order of arrival
        self._ip_of: dict[C, str] = {}
        self._open_per_ip: Counter[str] = Counter()
        self._accepts = RateLimit(limits.accepts_per_s, limits.accepts_burst, limits.tracked_ips_max)

    def admit(self, connection: C, ip: str, now_s: float) -> tuple[bool, list[C]]:
        """Return (admitted, connections to close in exchange). A refused connection is not on the books."""
        if self._accepts.take_at_once(ip, 1, now_s):
            return False, []
        evicted = self._make_room(ip)
        if self._open_per_ip[ip] - sum(self._ip_of[other] == ip for other in evicted) >= (
            self.limits.connections_per_ip_max
        ):
            oldest = self._oldest_pending(ip)
            if oldest is None:
                return False, evicted
            self._pending.pop(oldest)
            evicted.append(oldest)
        self._pending[connection] = ip
        self._ip_of[connection] = ip
        self._open_per_ip[ip] += 1
        return True, evicted

    def establish(self, connection: C) -> None:
        """The peer has proved who it is: no longer subject to eviction."""
        self._pending.pop(connection, None)

    def release(self, connection: C) -> None:
        """The connection is gone. Unknown ones are ignored."""
        self._pending.pop(connection, None)
        ip = self._ip_of.pop(connection, None)
        if ip is None:
            return
        self._open_per_ip[ip] -= 1
        if not self._open_per_ip[ip]:
            del self._open_per_ip[ip]

    def _make_room(self, ip: str) -> list[C]:
        evicted: list[C] = []
        if sum(other == ip for other in self._pending.values()) >= self.limits.pending_per_ip_max:
            oldest = self._oldest_pending(ip)
            assert oldest is not None
            evicted.append(oldest)
        elif len(self._pending) >= self.limits.pending_max:
            evicted.append(next(iter(self._pending)))
        for connection in evicted:
            self._pending.pop(connection)
        return evicted

    def _oldest_pending(self, ip: str) -> C | None:
        return next((connection for connection, other in self._pending.items() if other == ip), None)
