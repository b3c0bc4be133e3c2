"""Agreement, validity and termination of whole networks of cores, by the seed, which is in the test id."""

from __future__ import annotations

import pytest

from consensus.bft.core import BftCore
from consensus.bft.effects import Effect
from consensus.bft.evidence import get_accused
from tests.property.consensus.bft.byzantine import Equivocator
from tests.property.consensus.bft.network import TIMEOUTS, Conditions, Faulty, Network

BAD = Conditions(heal_ms=1_500, loss=0.3, duplication=0.3, delay_ms_max=300)
LIMIT_MS = 60_000


def check(network: Network) -> None:
    """Beyond what the network checks as it runs: a replay of a node's inputs gives its effects again."""
    for node in network.nodes.values():
        again = BftCore(TIMEOUTS)
        effects: list[Effect] = []
        for event in node.log:
            effects += again.handle(event)
        assert effects == node.effects


def test_one_validator_needs_no_timeout() -> None:
    network = Network((7,), seed=0)
    network.run(heights=5, limit_ms=5 * TIMEOUTS.propose_ms)
    (node,) = network.nodes.values()
    assert [decide.round for decide in node.decided.values()] == [0] * 5


@pytest.mark.parametrize("seed", range(40))
def test_good_network_decides_in_round_0(seed: int) -> None:
    network = Network((1, 2, 3, 1), seed)
    network.run(heights=3, limit_ms=LIMIT_MS)
    assert {decide.round for node in network.nodes.values() for decide in node.decided.values()} == {0}
    assert not any(node.evidence for node in network.nodes.values())


@pytest.mark.parametrize("seed", range(100))
def test_bad_network_of_four(seed: int) -> None:
    network = Network((1, 1, 1, 1), seed, BAD)
    network.run(heights=3, limit_ms=LIMIT_MS)
    check(network)


@pytest.mark.parametrize("seed", range(40))
def test_silent_validator(seed: int) -> None:
    network = Network((3, 4, 2, 3), seed, BAD, faulty={seed % 3 if seed % 3 != 1 else 3: Faulty})
    network.run(heights=3, limit_ms=LIMIT_MS)


@pytest.mark.parametrize("seed", range(160))
def test_equivocator_among_four(seed: int) -> None:
    network = Network((1, 1, 1, 1), seed, BAD, faulty={seed % 4: Equivocator})
    network.run(heights=3, limit_ms=LIMIT_MS)
    check(network)


@pytest.mark.parametrize("seed", range(40))
def test_two_equivocators_among_seven(seed: int) -> None:
    faulty = {seed % 7: Equivocator, (seed + 1 + seed // 7) % 7: Equivocator}
    network = Network((1,) * 7, seed, BAD, faulty=faulty)
    network.run(heights=2, limit_ms=LIMIT_MS)
    check(network)
    accused = {get_accused(one) for node in network.nodes.values() for one in node.evidence}
    assert accused <= {network.validators.members[index].key for index in faulty}
    assert accused
