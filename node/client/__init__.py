"""The client's side with its IO: sessions, requests over libp2p, settlements followed on chain."""
