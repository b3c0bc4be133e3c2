"""The full node: its settings, its peers and the one place where its parts are wired together."""
