"""The node under fire is the one the integration tests ask."""

from tests.integration.node.conftest import shared_node

__all__ = ["shared_node"]
