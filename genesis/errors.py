"""The error of an invalid chain spec."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class SpecError(MyelinError):
    """`field` names the place in the spec (dotted; empty for the whole), the text says what is wrong with it."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(f"{field or 'spec'} {text}")
        self.field = field
        self.text = text
