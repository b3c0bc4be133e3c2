"""The node's local API: one table of typed methods, served over a unix socket inside the node process."""
