"""Readable names of the development chain's accounts; other chains' accounts are shown by address alone."""

from __future__ import annotations

from genesis.dev import DEV_NAMES, get_dev_identity
from proto_specs.ss58 import encode_address


def make_dev_names(prefix: int) -> dict[str, str]:
    """The name of each address."""
    return {encode_address(get_dev_identity(name).account, prefix): name for name in DEV_NAMES}
