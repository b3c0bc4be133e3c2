"""The plots of docs/economics.md, from a report. The same report gives the same files, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from node.sim.economy.svg import Bar, Line, draw_bars, draw_lines

SWEEP_LEAST = 3
"""A scenario with fewer strengths has no plot of its own."""


def save_plots(result: dict[str, Any], directory: Path) -> None:
    """Write all plots into a directory that is there. Raises OSError."""
    for name, text in draw_plots(result).items():
        (directory / name).write_text(text, "utf-8")


def draw_plots(result: dict[str, Any]) -> dict[str, str]:
    """SVG text by file name."""
    plots = {"margins.svg": _draw_margins(result), "supply.svg": _draw_supply(result)}
    by_name: dict[str, list[dict[str, Any]]] = {}
    for one in result["scenarios"]:
        by_name.setdefault(one["scenario"], []).append(one)
    for name, found in by_name.items():
        if len(found) >= SWEEP_LEAST:
            plots[f"{name}.svg"] = _draw_sweep(name, found)
    return plots


def _draw_margins(result: dict[str, Any]) -> str:
    usual = [one for one in result["scenarios"] if one["is_usual"] and one["scenario"] != "honest"]
    bars = [Bar(one["scenario"], one["margin"], f"{one['margin']:.2f} ± {one['error']:.2f}") for one in usual]
    return draw_bars("What each deviation loses", "MYL an epoch against honesty; linear to 1, then logarithmic", bars)


def _draw_sweep(name: str, found: list[dict[str, Any]]) -> str:
    points = tuple((float(one["strength"]), one["deviating"]) for one in found)
    honest = tuple((float(one["strength"]), one["honest"]) for one in found)
    return draw_lines(name, found[0]["unit"], "MYL an epoch", [Line(name, points), Line("honest", honest)])


def _draw_supply(result: dict[str, Any]) -> str:
    years = result["supply"]
    whole = tuple((float(one["year"]), (one["issuance"] + one["burned"]) / 1e6) for one in years)
    left = tuple((float(one["year"]), one["issuance"] / 1e6) for one in years)
    lines = [Line("nothing burned", whole), Line("burned as simulated", left)]
    return draw_lines("Supply", "years", "million MYL", lines)
