"""What worker, client and verifier share: typed frames over libp2p and typed views of the chain."""
