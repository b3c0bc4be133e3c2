"""HTTP of the gateway: connections, bodies, streams of events."""
