"""The state transition: what a block does to the state. One folder per module; `executive.py` tells the story."""
