"""All events of the runtime: one union, tagged module * 256 + n, and the parts of a receipt that carry them."""

from __future__ import annotations

from consensus.runtime.balances import events as balances
from consensus.runtime.inference import events as inference
from consensus.runtime.multisig import events as multisig
from consensus.runtime.params import events as params
from consensus.runtime.staking import events as staking
from consensus.runtime.system import events as system
from consensus.runtime.utility import events as utility

Event = (
    system.ExtrinsicFailed
    | system.Remarked
    | balances.Transferred
    | balances.TipsPaid
    | balances.FeesBurned
    | staking.StakingEvent
    | inference.InferenceEvent
    | params.ParamsEvent
    | utility.UtilityEvent
    | multisig.MultisigEvent
)
