"""Chain specs: the dev chain, validation field by field, JSON both ways, and the state they build."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from consensus.beacon import compute_genesis_beacon
from consensus.runtime.balances.state import HoldReason, read_account, read_hold, read_issuance
from consensus.runtime.staking.state import read_stake, read_validators
from consensus.runtime.system.state import read_now
from consensus.state.reader import DictState
from consensus.state.tree import prove, verify_proof
from genesis.builder import build_genesis
from genesis.dev import DEV_NAMES, build_dev_spec, derive_dev_seed, get_dev_identity
from genesis.errors import SpecError
from genesis.spec import ChainSpec, compute_genesis_hash, format_spec, load_spec, parse_spec, save_spec, validate_spec
from proto_specs.codec import decode, encode
from proto_specs.types.common import NMYL_PER_MYL

SPEC = build_dev_spec()


def test_dev_keys_are_what_their_names_say() -> None:
    assert derive_dev_seed("alice").hex() == "8f5b03fdacc883ca53118e94c06d1b06ee7f96370cc46812abcadf76c33e140b"
    keys = {
        key
        for name in DEV_NAMES
        for identity in [get_dev_identity(name)]
        for key in (identity.account, identity.consensus_key.public_key, identity.worker_key.public_key)
    }
    assert len(keys) == 3 * len(DEV_NAMES)


def test_the_dev_chain_starts_with_alice() -> None:
    genesis = build_genesis(SPEC)
    state = DictState(dict(genesis.items))
    alice = get_dev_identity("alice")
    (member,) = read_validators(state).members
    assert (member.key, member.operator, member.power) == (
        alice.consensus_key.public_key,
        alice.account,
        100_000 * NMYL_PER_MYL,
    )
    assert genesis.validators == read_validators(state)
    assert read_stake(state, alice.account).bonded == member.power
    assert read_hold(state, alice.account, HoldReason.STAKE) == member.power
    account = read_account(state, alice.account)
    assert (account.free, account.reserved) == (900_000 * NMYL_PER_MYL, member.power)
    assert read_issuance(state) == len(DEV_NAMES) * 1_000_000 * NMYL_PER_MYL
    assert read_now(state).time_ms == SPEC.genesis_time_ms
    assert genesis.hash == compute_genesis_hash(SPEC)
    assert genesis.beacon == compute_genesis_beacon(genesis.hash)


def test_every_genesis_item_is_under_the_root() -> None:
    genesis = build_genesis(SPEC)
    pages = genesis.tree.node_writes
    for key, value in genesis.items:
        assert verify_proof(genesis.state_root, key, value, prove(pages.get, key))
    assert [key for key, _ in genesis.items] == sorted(key for key, _ in genesis.items)


def test_specs_have_one_encoding_and_one_hash() -> None:
    assert decode(ChainSpec, encode(SPEC)) == SPEC
    assert compute_genesis_hash(build_dev_spec(name="other")) != compute_genesis_hash(SPEC)
    assert compute_genesis_hash(build_dev_spec(("alice", "bob"))) != compute_genesis_hash(SPEC)


def test_json_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    spec = build_dev_spec(("alice", "bob", "charlie", "dave"), name="four")
    save_spec(spec, path)
    assert load_spec(path) == spec
    raw = json.loads(path.read_text())
    assert raw["accounts"][0]["account"].startswith("5"), "accounts are shown as SS58"
    with pytest.raises(OSError, match="No such file"):
        load_spec(tmp_path / "absent.json")


def edit(field: str, value: Any) -> str:
    """The dev spec's JSON with one dotted field replaced; `...` removes it."""
    raw = json.loads(format_spec(SPEC))
    *path, last = [int(part) if part.isdigit() else part for part in field.split(".")]
    place = raw
    for part in path:
        place = place[part]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return json.dumps(raw)


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("name", ..., "name"),
        ("name", 7, "name"),
        ("name", "x" * 65, "name"),
        ("name", "", "name"),
        ("colour", "red", "colour"),
        ("ss58_prefix", -1, "ss58_prefix"),
        ("ss58_prefix", "42", "ss58_prefix"),
        ("block_interval_ms", 0, "block_interval_ms"),
        ("block_interval_ms", 1.5, "block_interval_ms"),
        ("block_interval_ms", True, "block_interval_ms"),
        ("accounts", {}, "accounts"),
        ("accounts.0", [], "accounts[0]"),
        ("accounts.0.account", "5notanaddress", "accounts[0].account"),
        ("accounts.0.balance", 1 << 64, "accounts[0].balance"),
        ("accounts.0.balance", 1, "accounts"),
        ("validators", [], "validators"),
        ("validators.0.consensus_key", "zz", "validators[0].consensus_key"),
        ("validators.0.consensus_key", "00", "validators[0].consensus_key"),
        ("validators.0.consensus_key", "0x00", "validators[0].consensus_key"),
        ("validators.0.consensus_key", "0x" + "zz" * 32, "validators[0].consensus_key"),
        ("validators.0.consensus_key", 5, "validators[0].consensus_key"),
        ("validators.0.stake", 1, "validators"),
        ("validators.0.stake", 1 << 60, "validators"),
        ("params.system.block_bytes_max", 1 << 30, "system.block_bytes_max"),
        ("params.system.fullness_target_permille", 0, "system.fullness_target_permille"),
        ("params.system.weight_price_change_denominator", 0, "system.weight_price_change_denominator"),
        ("params.system.weight_price_min", 0, "system.weight_price_min"),
        ("params.staking.epoch_blocks", 0, "staking.epoch_blocks"),
        ("params.staking.validators_max", 0, "staking.validators_max"),
        ("params.staking.unbonding_blocks", 109, "staking.unbonding_blocks"),
        ("params.staking.unbonding_blocks", 1_271, "staking.unbonding_blocks"),
        ("params.staking.evidence_blocks", 191, "staking.unbonding_blocks"),
        ("params.staking.epoch_blocks", 101, "staking.unbonding_blocks"),
        ("params.staking.issuance_max", 1, "accounts"),
        ("params.staking.emission_halving_epochs", 0, "staking.emission_halving_epochs"),
        ("params.staking.double_vote_slash_permille", 1_001, "staking.double_vote_slash_permille"),
        ("params.inference.committee_size", 65, "inference.committee_size"),
        ("params.inference.fails_min", 2, "inference.fails_min"),
        ("params.inference.burn_permille", 901, "inference.burn_permille"),
        ("params.inference.fail_slash_permille", 1_001, "inference.fail_slash_permille"),
        ("params.inference.base_challenge_ppm", 1_000_001, "inference.base_challenge_ppm"),
        ("params.inference.retention_blocks", 0, "inference.retention_blocks"),
        ("params.inference.worker_unbonding_blocks", 42, "inference.worker_unbonding_blocks"),
    ],
)
def test_a_wrong_field_is_named(field: str, value: Any, named: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(edit(field, value))
    assert caught.value.field == named


def test_json_must_be_json() -> None:
    for text in ("", "[]", "null", "{"):
        with pytest.raises(SpecError):
            parse_spec(text)


def test_accounts_and_validators_are_ordered_and_unique() -> None:
    four = build_dev_spec(("alice", "bob"))
    first = four.validators[0]
    for changed, named in (
        (replace(four, accounts=four.accounts[::-1]), "accounts"),
        (replace(four, accounts=(four.accounts[0], *four.accounts)), "accounts"),
        (replace(four, validators=four.validators[::-1]), "validators"),
        (replace(four, validators=(first, replace(four.validators[1], operator=first.operator))), "validators"),
        (replace(four, accounts=tuple(one for one in four.accounts if one.account != first.operator)), "validators"),
    ):
        with pytest.raises(SpecError) as caught:
            validate_spec(changed)
        assert caught.value.field == named
        with pytest.raises(SpecError):
            build_genesis(changed)


def test_a_spec_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """A pipe would be waited for without an end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(SpecError, match="is no file: name a chain spec"):
            load_spec(path)
