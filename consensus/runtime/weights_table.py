"""Stub."""
Cost = tuple[int, int, int, int, int]
SIGNATURE_NS = READ_NS = SEEK_NS = ROW_NS = WRITE_NS = 1
TRANSACTION: Cost = (1, 1, 1, 1, 1)
CALLS: dict[str, dict[str, Cost]] = {}
