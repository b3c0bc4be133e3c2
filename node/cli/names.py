"""Readable names of the development chain's accounts; other chains' accounts are shown by address alone."""

from __future__ import annotations

from genesis.dev import DEV_NAMES, get_dev_identity
from proto_specs.ss58 import encode_address

LOCALNET_WORKERS = tuple(f"worker-{number + 1}" for number in range(16))


def make_dev_names(prefix: int) -> dict[str, str]:
    """The name of each address."""
    return {encode_address(get_dev_identity(name).account, prefix): name for name in (*DEV_NAMES, *LOCALNET_WORKERS)}
