"""Running a shard: sessions, KV memory, scheduling, wire rows and the recomputation a verifier does."""
