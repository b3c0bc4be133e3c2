"""How honest work, cheats and checks stand to one another, in numbers."""
