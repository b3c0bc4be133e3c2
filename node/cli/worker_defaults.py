"""What a worker asks, bonds and holds where its command does not say."""

from __future__ import annotations

from typing import Final

DEFAULT_PREFILL_PRICE: Final = 20_000
DEFAULT_DECODE_PRICE: Final = 80_000
DEFAULT_BOND_MYL: Final = 150
DEFAULT_KV_POSITIONS: Final = 16_384
