"""Errors of a light client's sources and state file. Imports nothing heavy: every command imports these."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class SourceLost(MyelinError):
    """The source does not answer, or answers nonsense. The message says which source and why."""


class LightStateInvalid(MyelinError):
    """The file is damaged or of another chain. The message names it and says what helps."""
