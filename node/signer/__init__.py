"""Who may sign with a validator's key: the history on disk, in this process or in one of its own (`remote`)."""
