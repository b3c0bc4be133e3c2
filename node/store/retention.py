"""How much of the past a node keeps. Knows no database: options and settings name it too."""

from __future__ import annotations

from dataclasses import dataclass

from proto_specs.limits import MORTALITY_BLOCKS_MAX

ARCHIVE = "archive"
STATE_BLOCKS_DEFAULT = 256
BODY_BLOCKS_MIN = MORTALITY_BLOCKS_MAX
"""Fewer bodies than a transaction can be valid for would lose sight of transactions that can still be asked about."""


@dataclass(frozen=True, slots=True)
class Retention:
    """How many blocks behind the head are kept: states (read and proven), and bodies with receipts. None: all.

    `is_indexed`: whom and what each block names is kept too, so that the history of an account can be listed.
    """

    state_blocks: int | None = STATE_BLOCKS_DEFAULT
    body_blocks: int | None = None
    is_indexed: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError for a window that cannot be."""
        if self.state_blocks is not None and self.state_blocks < 1:
            raise ValueError("at least the state 1 block behind the head is kept")
        if self.body_blocks is not None and self.body_blocks < BODY_BLOCKS_MIN:
            raise ValueError(
                f"at least {BODY_BLOCKS_MIN} blocks are kept: a transaction can be valid for so long, and must be found"
            )


DEFAULT_RETENTION = Retention()
