"""A validator's key and history in a process of their own, asked over a Unix socket."""
