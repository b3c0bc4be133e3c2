"""Whether it pays to deviate: actors with money on the chain's own runtime, epoch after epoch."""
