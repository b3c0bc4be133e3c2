"""Runtime module 2: accounts, holds, total issuance."""
