"""A worker: serves one shard to requests over libp2p, keeps what it may have to open, settles and earns."""
