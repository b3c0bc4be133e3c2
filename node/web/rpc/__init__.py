"""Public JSON-RPC 2.0 in a process of its own, which talks to the node's local API; and the typed client."""
