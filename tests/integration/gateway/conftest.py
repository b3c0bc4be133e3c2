"""One network for all tests of this folder: two workers serve the same upper layers, so that one may die."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.conftest import Model
from tests.integration.gateway.network import GatewayNet, open_gateway_net

RANGES = ((0, 15), (15, 30), (15, 30))


@pytest.fixture(scope="package")
def net(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayNet]:
    """SmolLM2 in two stages behind a gateway with keys."""
    with open_gateway_net(tmp_path_factory.mktemp("net"), model.store.root, model.manifest, RANGES) as running:
        yield running
