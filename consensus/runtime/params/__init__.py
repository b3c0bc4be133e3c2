"""Runtime module 5: constants of the protocol, changed by a vote of the stake within bounds."""
