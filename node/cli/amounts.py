"""Amounts as people write them, `1.5`, `1.5MYL` or `250nmyl`: integers from end to end, never a float."""

from __future__ import annotations

import re

from node.cli.errors import CliError
from proto_specs.types.common import NMYL_PER_MYL

AMOUNT_HELP = "Amount: 1.5 or 1.5MYL, or 250nmyl."
AMOUNT_MAX = (1 << 64) - 1
DECIMALS = 9
PPB = 1_000_000_000
assert 10**DECIMALS == NMYL_PER_MYL
_AMOUNT = re.compile(r"(-?)([0-9]+)(?:\.([0-9]+))? ?(myl|nmyl)?", re.IGNORECASE)


class AmountInvalid(CliError):
    """The text is no amount. The message says why."""


def parse_amount(text: str) -> int:
    """The exact number of nmyl of an amount. Raises AmountInvalid."""
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        raise AmountInvalid(f"{text!r:.60} is no amount: write 1.5, 1.5MYL or 250nmyl")
    minus, whole, part, unit = found[1], found[2], found[3] or "", (found[4] or "myl").lower()
    if minus:
        raise AmountInvalid(f"{text!r:.60} is negative: an amount is zero or more")
    decimals = DECIMALS if unit == "myl" else 0
    if len(part) > decimals:
        raise AmountInvalid(f"{text!r:.60} has {len(part)} digits after the point; at most {decimals} are exact")
    digits = (whole + part.ljust(decimals, "0")).lstrip("0")
    # The length is judged first: the number may have any length, and converting takes quadratic time.
    if len(digits) > len(str(AMOUNT_MAX)) or int(digits or "0") > AMOUNT_MAX:
        raise AmountInvalid(f"{text!r:.60} is more than there can be")
    return int(digits or "0")


def format_myl(amount: int) -> str:
    """Exact text of an amount in nmyl."""
    whole, part = divmod(amount, NMYL_PER_MYL)
    return f"{whole}.{part:09d}".rstrip("0").rstrip(".") + " MYL"


def format_distance(ppb: int) -> str:
    """Parts per billion as a plain number."""
    return "0" if ppb == 0 else f"{ppb / PPB:.1e}"
