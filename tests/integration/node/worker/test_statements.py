"""Real workers over libp2p with the real model: batched requests end with roots, and all sign their statement."""

from __future__ import annotations

import pytest

from inference.serving.statements import make_statement
from node.client.batches import make_finished_leaf
from node.client.statement_clerk import P2PSigners
from node.p2p.errors import NetworkError, RequestRefused
from node.p2p.request import request as ask_peer
from proto_specs.codec import decode_as, encode
from proto_specs.limits import STATEMENT_PROPOSAL_BYTES_MAX
from proto_specs.types.statement import SignedStatement, is_statement_signed, sign_statement_as_client
from proto_specs.types.statement_wire import (
    STATEMENT_PROTOCOL,
    StatementAnswer,
    StatementProposal,
    StatementSignature,
)
from tests.integration.conftest import Model
from tests.integration.node.worker.network import SESSION_KEY, Network, open_network

RANGES = [(0, 10), (10, 20), (20, 30)]
PROMPT = (1, 4093, 198, 1780)


async def propose(network: Network, count: int) -> StatementProposal:
    finished = [await network.finish(network.make_order(PROMPT, 4, sequence), PROMPT) for sequence in range(count)]
    order = finished[0].order
    leaves = [make_finished_leaf(one) for one in finished]
    statement = make_statement(order.genesis, order.session, order.path, leaves)
    return StatementProposal(statement, sign_statement_as_client(statement, SESSION_KEY), tuple(leaves))


async def test_a_statement_of_real_requests_is_signed_by_all(model: Model) -> None:
    async with open_network(model, RANGES) as network:
        proposal = await propose(network, 3)
        signers, signatures = P2PSigners(network.client), []
        for stage in network.stages:
            answer = decode_as(StatementAnswer, await signers.ask(stage.entry, encode(proposal)))
            assert isinstance(answer, StatementSignature), answer
            signatures.append(answer.signature)
        signed = SignedStatement(proposal.statement, proposal.client_signature, tuple(signatures))
        assert is_statement_signed(signed, SESSION_KEY.public_key)
        last = network.stages[-1].archive
        assert not last.settlements, "nothing settles by itself yet"
        assert len(last.disk.held) == 3
        await network.restart(1)
        again = decode_as(StatementAnswer, await signers.ask(network.stages[1].entry, encode(proposal)))
        assert again == StatementSignature(again.statement, signatures[1])


async def test_garbage_is_refused(model: Model) -> None:
    async with open_network(model, [*RANGES[:1], (10, 30)]) as network:
        address = network.stages[0].entry.addresses[0]
        for body in (b"", b"\x00", bytes(1_000)):
            with pytest.raises(RequestRefused, match="DecodeError"):
                await ask_peer(network.client, address, STATEMENT_PROTOCOL, body)
        with pytest.raises(NetworkError):
            await ask_peer(network.client, address, STATEMENT_PROTOCOL, bytes(STATEMENT_PROPOSAL_BYTES_MAX + 1))
