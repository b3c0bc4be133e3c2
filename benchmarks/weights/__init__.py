"""Measures the cost of every call: the source of `consensus/runtime/weights_table.py`. See benchmarks/README.md."""
