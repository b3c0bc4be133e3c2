"""A node's part in consensus: votes, blocks and catching up, on whatever clock, network and disk it is given."""
