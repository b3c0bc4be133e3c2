"""Runtime module 6: several calls in one transaction."""
