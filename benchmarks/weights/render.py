"""The table as Python text: sorted, integers only, the same bytes for the same constants."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.weights.fit import Table
from benchmarks.weights.sample import Sample

PATH = Path(__file__).parents[2] / "consensus" / "runtime" / "weights_table.py"

LINE_MAX = 120

_TEXT = '''"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on {cpu}, CPython {python}, with a state of {accounts:,} accounts.
Taken as given: {assumed}.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = {signature}
READ_NS: Final = {read}
SEEK_NS: Final = {seek}
ROW_NS: Final = {row}
WRITE_NS: Final = {write}

TRANSACTION: Final[Cost] = {transaction}
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {{
{calls}
}}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
'''


def render(table: Table, machine: dict[str, Any], assumed: dict[str, int], accounts: int) -> str:
    """The whole module."""
    calls = "\n".join(_render_call(name, costs) for name, costs in sorted(table.calls.items()))
    return _TEXT.format(
        cpu=machine["cpu"],
        python=machine["python"],
        accounts=accounts,
        assumed=", ".join(f"{count} {name.replace('_', ' ')}" for name, count in sorted(assumed.items())),
        signature=f"{table.signature:_}",
        read=f"{table.read:_}",
        seek=f"{table.seek:_}",
        row=f"{table.row:_}",
        write=f"{table.write:_}",
        transaction=_render_cost(table.transaction),
        calls=calls,
    )


def _render_call(name: str, costs: dict[str, Sample]) -> str:
    """On one line, or where that is too long each component on its own, as the formatter would write it."""
    parts = [f'"{component}": {_render_cost(cost)}' for component, cost in sorted(costs.items())]
    line = f'    "{name}": {{{", ".join(parts)}}},'
    if len(line) <= LINE_MAX:
        return line
    return "\n".join([f'    "{name}": {{', *(f"        {one}," for one in parts), "    },"])


def _render_cost(cost: Sample) -> str:
    return f"({', '.join(f'{part:_}' for part in cost.parts)})"
