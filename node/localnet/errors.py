"""What the localnet's user can act on."""

from __future__ import annotations


class LocalnetError(Exception):
    """A command of `myelin localnet` cannot be carried out. The message says what to do."""
