"""Runtime module 7: accounts that several keys sign for."""
