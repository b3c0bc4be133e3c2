"""The protocol's records, one file per area."""
