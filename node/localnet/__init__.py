"""`myelin localnet`: several validators and workers as real processes on this machine, and faults on demand."""
