"""Everything with IO: storage, network, mempool, block production, verification duty, RPC, CLI."""
