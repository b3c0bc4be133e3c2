"""The cost of a block before any transaction: its start and end, by number of validators, and at an epoch's end.

No call pays for these: they must fit beside a full block into the rest of the interval.
"""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.weights.rig import Rig
from benchmarks.weights.sample import Measurement
from benchmarks.weights.worlds import EPOCH_BLOCKS, MYL, VALIDATORS, build_spec, get_payer, get_validator
from proto_specs.types import calls

DELEGATOR = get_payer(0)


def measure() -> Iterator[Measurement]:
    """Measure two cases: all validators have delegators, sign and are elected again; all but one are jailed."""
    for count in (4, VALIDATORS // 4, VALIDATORS):
        rig = Rig(build_spec(count))
        chosen = [get_validator(number) for number in range(count)]
        rig.block(*((DELEGATOR, calls.Delegate(one.account, 10 * MYL)) for one in chosen))
        rig.skip_epochs(2)
        yield Measurement("", "a block of nothing", "validators", count, rig.measure_block())
        rig.skip_to(3 * EPOCH_BLOCKS - 1)
        yield Measurement("", "an epoch's last", "validators", count, rig.measure_block())
        rig.skip_epochs()
        while rig.height < 4 * EPOCH_BLOCKS - 1:
            rig.block(signed_by=(chosen[0].consensus_key.public_key,))
        yield Measurement("", "an epoch's last, all but one absent", "validators", count, rig.measure_block())
