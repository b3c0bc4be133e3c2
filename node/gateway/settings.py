"""What a gateway is told when it is started."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from inference.routing import Prefer
from node.gateway.accounts.schema import DATABASE_NAME
from node.gateway.http.connections import ConnectionBounds
from proto_specs.errors import MyelinError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


JOURNALS_NAME = "running"


class SettingsInvalid(MyelinError):
    """The gateway cannot run like that. The text says what to change."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """`max_price` is nmyl per layer and token. `is_open` serves everybody without a key, on loopback only.

    `prefer` is what paths are chosen by where a request does not say. `origins` are the web pages of other servers that
    may ask (CORS); none by default.
    """

    directory: Path
    max_price: int
    host: str = "127.0.0.1"
    port: int = 8080
    is_open: bool = False
    origins: tuple[str, ...] = ()
    tokens_default: int = 2_048
    prefer: Prefer = Prefer.FAST
    bounds: ConnectionBounds = field(default_factory=ConnectionBounds)

    def __post_init__(self) -> None:
        if self.is_open and self.host not in LOOPBACK:
            raise SettingsInvalid(
                f"--open answers everybody at this account's cost: not on {self.host}; make keys instead"
            )

    @property
    def database(self) -> Path:
        """The file of keys, requests and usage."""
        return self.directory / DATABASE_NAME

    @property
    def journals(self) -> Path:
        """The directory of running answers."""
        return self.directory / JOURNALS_NAME
