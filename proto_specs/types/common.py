"""Scalar types shared by all areas. `Kind` says what a byte string means, for readers of its JSON."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from proto_specs.codec import U64, Fixed, Max
from proto_specs.limits import PAYLOAD_BYTES_MAX


@dataclass(frozen=True)
class Kind:
    """The meaning of a byte string: `account` is shown as SS58 text, everything else as hex."""

    name: str


AccountId = Annotated[bytes, Kind("account"), Fixed(32)]
Hash32 = Annotated[bytes, Kind("hash"), Fixed(32)]
PublicKey = Annotated[bytes, Kind("key"), Fixed(32)]
Signature = Annotated[bytes, Kind("signature"), Fixed(64)]
VrfProof = Annotated[bytes, Kind("proof"), Fixed(80)]
Payload = Annotated[bytes, Kind("payload"), Max(PAYLOAD_BYTES_MAX)]
Balance = U64
"""Amounts in nmyl; 1 MYL = 10^9 nmyl."""

NMYL_PER_MYL = 10**9
ZERO_HASH = bytes(32)
