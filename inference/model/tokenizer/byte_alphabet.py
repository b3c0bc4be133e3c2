"""GPT-2's alphabet: a printable character for each byte."""

from __future__ import annotations


def _byte_alphabet() -> dict[str, int]:
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [one for one in range(256) if one not in printable]
    return {chr(one): one for one in printable} | {chr(256 + place): one for place, one in enumerate(others)}


BYTE_OF_CHAR = _byte_alphabet()
"""The byte that each character of the alphabet stands for."""
