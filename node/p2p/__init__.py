"""Peer-to-peer transport: the one adapter around py-libp2p; nothing else in the project imports libp2p."""
