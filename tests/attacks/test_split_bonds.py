"""One machine under several keys: it answers all their audits, so what it may not do is earn more by having them."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from consensus.runtime.arithmetic import compute_shares
from consensus.runtime.inference import audits
from consensus.runtime.inference.state import InferenceParams, Worker, WorkerStatus
from genesis.public import build_public_params
from proto_specs.types.common import NMYL_PER_MYL as MYL

EMISSION = 4 * MYL
OTHERS, DRAWN = 12, 4
BOND = 300 * MYL


def make_worker(bond: int) -> Worker:
    """An active worker of ten layers; nothing but bond and layers counts here."""
    counted = {"operator": b"o" * 32, "model": b"m" * 32, "peer_id": "", "addresses": (), "status": WorkerStatus.ACTIVE}
    empty = dict.fromkeys(Worker.__annotations__, 0)
    return Worker(**{**empty, **counted, "start": 0, "end": 10, "bond": bond})


def expect(params: InferenceParams, keys: int, *, has_lack: bool) -> Fraction:
    """What one machine with the bond on so many keys earns an epoch, among others of 150 MYL: a draw takes four."""
    own, others = make_worker(BOND // keys), [make_worker(150 * MYL)] * (DRAWN - 1)
    if has_lack:
        (reward, *_) = audits.compute_rewards(params, EMISSION, [own, *others])
    else:
        (reward, *_) = compute_shares(EMISSION, [audits.compute_capacity(params, one) for one in (own, *others)])
    return Fraction(DRAWN * keys, OTHERS + keys) * reward


@pytest.mark.parametrize("keys", [2, 3])
def test_a_bond_on_several_keys_earns_no_more_than_on_one(keys: int) -> None:
    params = build_public_params().inference
    assert expect(params, keys, has_lack=True) < expect(params, 1, has_lack=True)


def test_it_pays_where_what_bonds_lack_is_shared_out_among_the_others() -> None:
    params = build_public_params().inference
    assert expect(params, 3, has_lack=False) > expect(params, 1, has_lack=False)


def test_it_pays_where_the_layers_account_for_less_than_the_bond() -> None:
    """The development chain's parameter: ten layers count for 100 MYL, the least that a worker bonds."""
    params = replace(build_public_params().inference, capacity_bond_per_layer=10 * MYL)
    assert expect(params, 3, has_lack=True) > 2 * expect(params, 1, has_lack=True)


def test_full_bonds_share_all_of_the_emission() -> None:
    params = build_public_params().inference
    full = [make_worker(10 * params.capacity_bond_per_layer)] * DRAWN
    assert sum(audits.compute_rewards(params, EMISSION, full)) == EMISSION
