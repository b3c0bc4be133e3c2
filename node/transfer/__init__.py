"""Large pieces fetched from several peers by hash: the download itself, and weights of models (`shards`)."""
