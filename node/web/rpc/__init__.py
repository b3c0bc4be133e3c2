"""The public JSON-RPC 2.0 server, a process of its own that talks to the node's local API."""
