"""The client for application developers, without a network."""
