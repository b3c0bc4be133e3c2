"""What every node must compute identically: the BFT core and the runtime. Pure: no IO, clock, randomness, float."""
