"""One request as its parties see it: sans-IO state machines of stage and client, and the logs of their boundaries."""
