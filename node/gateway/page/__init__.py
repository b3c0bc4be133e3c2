"""The chat page that the gateway serves, and how its files are served."""
