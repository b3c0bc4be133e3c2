"""Runtime module 4: models, workers, sessions, settlement, draws and verdicts (DESIGN section 5)."""
