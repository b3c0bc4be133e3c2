"""`myelin demo`: a whole network of real processes on this machine, one real request, and what the chain says of it."""
