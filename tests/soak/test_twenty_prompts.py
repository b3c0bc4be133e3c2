"""Greedy text of three workers over real libp2p is that of the same shards in one process: 20 prompts of 64 tokens."""

from __future__ import annotations

import pytest

from inference.serving.client import SettlementSent
from tests.integration.conftest import Model, model
from tests.integration.node.worker.network import open_network
from tests.integration.node.worker.test_pipeline import encode_prompt, generate_alone

__all__ = ["model"]

SUBJECTS = (
    "rain",
    "bread",
    "the Moon",
    "chess",
    "a violin",
    "volcanoes",
    "tea",
    "the number seven",
    "bridges",
    "sleep",
    "whales",
    "copper",
    "a lighthouse",
    "jazz",
    "deserts",
    "bicycles",
    "glass",
    "honey",
    "maps",
    "winter",
)
TOKENS = 64


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_twenty_prompts_over_libp2p(model: Model) -> None:
    async with open_network(model, [(0, 10), (10, 20), (20, 30)]) as network:
        for number, subject in enumerate(SUBJECTS):
            prompt = encode_prompt(model, f"Tell me about {subject}.")
            tokens, end = await network.ask(network.make_order(prompt, TOKENS, number), prompt)
            assert isinstance(end, SettlementSent), end
            assert tokens == generate_alone(model, prompt, TOKENS), subject
