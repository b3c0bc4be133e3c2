"""The JSON-RPC methods, by the prefix of their names, and the table that they are registered in."""
