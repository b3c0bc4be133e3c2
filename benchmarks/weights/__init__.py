"""What every call costs, measured: the source of `consensus/runtime/weights_table.py`. See benchmarks/README.md."""
