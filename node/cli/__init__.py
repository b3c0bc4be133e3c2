"""The `myelin` command: one file per group of subcommands, `main.py` registers them."""
