"""The light client with its IO: where blocks come from, witnesses, and serving light blocks to others."""
