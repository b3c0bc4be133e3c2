"""Chain specs and the state they start from. Knows the runtime's modules, no node."""
