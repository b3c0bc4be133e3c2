"""The gateway measured from outside: what a client of it sees, beside the same shards without a network."""
