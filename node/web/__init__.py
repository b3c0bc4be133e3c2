"""Processes that serve the public over HTTP. They reach the node by its local socket alone."""
