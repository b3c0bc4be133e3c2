"""What a worker asks, bonds and holds: the options, and what they are where a command does not say."""

from __future__ import annotations

from typing import Annotated, Final

import typer

DEFAULT_PREFILL_PRICE: Final = 20_000
DEFAULT_DECODE_PRICE: Final = 80_000
DEFAULT_BOND_MYL: Final = 150
DEFAULT_KV_POSITIONS: Final = 16_384

BondOption = Annotated[int, typer.Option(min=0, help="Bond in MYL, if the worker is not registered yet.")]
PrefillPriceOption = Annotated[int, typer.Option(min=1, help="nmyl per layer and prompt token.")]
DecodePriceOption = Annotated[int, typer.Option(min=1, help="nmyl per layer and new token.")]
KvPositionsOption = Annotated[int, typer.Option(min=1, help="KV memory, in positions of all requests.")]
