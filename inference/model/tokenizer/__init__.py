"""Text to token ids and back, for every vocabulary we can reproduce exactly."""
