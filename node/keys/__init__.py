"""Account, validator, worker and node keys: derivation from a mnemonic, and encrypted files."""
