"""What the multisig module keeps: open operations with their approvals. Amounts are nmyl."""

from __future__ import annotations

from consensus.state.storage import StorageValue
from proto_specs.codec import record
from proto_specs.types.common import Balance


@record
class MultisigParams:
    """An open operation holds `deposit_base + signatories x deposit_per_signatory` of whoever opened it."""

    deposit_base: Balance
    deposit_per_signatory: Balance


params: StorageValue[MultisigParams] = StorageValue("multisig.params", MultisigParams)
