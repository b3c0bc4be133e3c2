"""Names, ports, links and the shared chain."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from genesis.dev import get_dev_identity
from node.keys.derivation import KeyKind
from node.keys.keystore import get_dev_key
from node.localnet.errors import LocalnetError
from node.localnet.localnet import list_peer_addresses, list_process_names
from node.localnet.plan import LocalnetPlan, Partitions, Wanted, build_spec, find_free_ports, make_plan
from node.p2p.address import decode_address
from node.p2p.identity import compute_peer_id

BASE = Path("/tmp/a-net")  # noqa: S108 (a name, nothing is written there)


def plan_for(validators: int, partitions: Partitions, workers: int = 0, delay_ms: int = 0) -> LocalnetPlan:
    return make_plan(BASE, Wanted(validators, workers, 500, partitions, delay_ms, payers=8), 42, layers=30)


@pytest.mark.parametrize("partitions", Partitions)
def test_every_validator_knows_every_other_by_its_key(partitions: Partitions) -> None:
    plan = plan_for(8, partitions)
    assert plan.names[:4] == ("alice", "bob", "charlie", "dave")
    assert plan.names[6:] == ("validator-7", "validator-8")
    for one in plan.validators:
        peers = [decode_address(text)[1] for text in list_peer_addresses(plan, one)]
        others = [name for name in plan.names if name != one.name]
        assert peers == [compute_peer_id(get_dev_key(name, KeyKind.NODE).seed) for name in others]


def test_no_two_listeners_share_an_address() -> None:
    plan = plan_for(8, Partitions.PROXY)
    own = [port for one in plan.validators for port in (one.port, one.rpc_port)]
    ports = [*own, *(link.port for link in plan.links)]
    assert len(ports) == 16 + 8 * 7 == len(set(ports))
    dialled = {text.split("/")[4] for one in plan.validators for text in list_peer_addresses(plan, one)}
    assert dialled == {str(link.port) for link in plan.links}, "nobody passes the proxy by"
    apart = plan_for(8, Partitions.NAMESPACES)
    addresses = [address for one in apart.validators for address in (one.host, one.rpc_host)]
    assert len({*addresses, apart.worker_host}) == 17


def test_a_taken_port_is_passed_over() -> None:
    port = next(find_free_ports(BASE))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        assert next(find_free_ports(BASE)) != port


def test_workers_share_the_layers_and_the_validators() -> None:
    plan = plan_for(2, Partitions.NONE, workers=3)
    assert [(one.start, one.end, one.validator) for one in plan.workers] == [
        (0, 10, "alice"),
        (10, 20, "bob"),
        (20, 30, "alice"),
    ]
    assert list_process_names(plan) == ("alice", "bob", "worker-1", "worker-2", "worker-3")
    assert list_process_names(plan_for(2, Partitions.PROXY))[0] == "proxy"


def test_the_chain_has_all_validators_and_money_for_everybody() -> None:
    plan = plan_for(4, Partitions.NONE, workers=1)
    spec = build_spec(plan)
    assert {one.consensus_key for one in spec.validators} == {
        get_dev_identity(name).consensus_key.public_key for name in plan.names
    }
    funded = {one.account for one in spec.accounts}
    assert {get_dev_identity(name).account for name in (*plan.names, "client", "worker-1", "payer-7")} <= funded
    assert (spec.genesis_time_ms, spec.block_interval_ms) == (42, 500)


@pytest.mark.parametrize(
    ("count", "delay_ms", "base"), [(0, 0, BASE), (33, 0, BASE), (4, 5, BASE), (4, 0, BASE / ("x" * 100))]
)
def test_what_cannot_be_is_refused(count: int, delay_ms: int, base: Path) -> None:
    with pytest.raises(LocalnetError):
        make_plan(base, Wanted(count, 0, 500, Partitions.NONE, delay_ms), 42)
