"""Properties of the client's side."""
