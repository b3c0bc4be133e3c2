"""The gateway: a process that answers as OpenAI's and Anthropic's servers do, and pays the network for it."""
