"""Runtime module 1: heights, recent block hashes, the beacon, and the price of weight."""
