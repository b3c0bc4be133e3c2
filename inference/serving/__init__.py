"""A request as each party sees it: sans-IO state machines of stage and client, and the logs of their boundaries."""
