"""Signature checks in processes of their own, so that a flood of transactions cannot hold up a vote."""
