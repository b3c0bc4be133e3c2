"""What application developers import: a client of the network."""
