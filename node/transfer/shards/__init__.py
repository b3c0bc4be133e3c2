"""Weights from other workers: served by the unit and chunk, fetched and verified by the manifest."""
