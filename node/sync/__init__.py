"""Snapshots between nodes: offered by those that have the state, joined from by those that have nothing."""
