"""Keys, budgets, rates and usage, in SQLite."""
