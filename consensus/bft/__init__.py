"""Tendermint (arXiv 1807.04938) as a state machine: inputs in, effects out. Knows no network, disk, clock or key.

Entry point: `core.BftCore.handle`. Normative page: proto_specs/consensus.md.
"""
