"""Models and shards, the worker engine, sampling and fingerprints. Knows no network, no chain state, no trio."""
