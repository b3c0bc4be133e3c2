"""A whole network of workers and gateways on virtual time."""
