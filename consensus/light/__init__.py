"""Following a chain by headers, commits and validator sets alone (proto_specs/light.md)."""
