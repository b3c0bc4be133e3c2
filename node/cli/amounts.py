"""Amounts as people write them: `1.5`, `1.5MYL`, `250nmyl`; exact, never through a float."""

from __future__ import annotations

import re
from decimal import Decimal

from node.cli.errors import CliError
from proto_specs.types.common import NMYL_PER_MYL

AMOUNT_HELP = "Amount: 1.5 or 1.5MYL, or 250nmyl."
AMOUNT_MAX = (1 << 64) - 1
_AMOUNT = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?(myl|nmyl)?", re.IGNORECASE)
_DECIMALS = 9


class AmountInvalid(CliError):
    """The text is no amount. The message says why."""


def parse_amount(text: str) -> int:
    """nmyl of an amount. Raises AmountInvalid."""
    found = _AMOUNT.fullmatch(text.strip().replace("_", ""))
    if found is None:
        raise AmountInvalid(f"{text!r} is no amount: write 1.5, 1.5MYL or 250nmyl")
    number, unit = Decimal(found[1]), (found[2] or "myl").lower()
    nmyl = number if unit == "nmyl" else number * NMYL_PER_MYL
    if nmyl != int(nmyl):
        raise AmountInvalid(f"{text!r} has a part smaller than one nmyl (10^-{_DECIMALS} MYL)")
    if int(nmyl) > AMOUNT_MAX:
        raise AmountInvalid(f"{text!r} is more than there can be")
    return int(nmyl)


def format_amount(nmyl: int) -> str:
    """An amount in MYL with its unit, without needless zeros."""
    whole, rest = divmod(nmyl, NMYL_PER_MYL)
    decimals = f".{rest:0{_DECIMALS}}".rstrip("0").rstrip(".")
    return f"{whole:,}{decimals} MYL"
