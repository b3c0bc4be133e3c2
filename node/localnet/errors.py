"""The localnet's error that a user can act on."""

from __future__ import annotations

from proto_specs.errors import MyelinError


class LocalnetError(MyelinError):
    """A command of `myelin localnet` cannot be carried out. The message says what to do."""
