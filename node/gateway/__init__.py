"""The gateway: an HTTP server through which OpenAI and Anthropic clients ask models of the network."""
