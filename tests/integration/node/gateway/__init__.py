"""The gateway on a socket, asked by unmodified clients."""
