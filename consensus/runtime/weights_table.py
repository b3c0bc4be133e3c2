"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 56_500
READ_NS: Final = 5_700
SEEK_NS: Final = 8_600
ROW_NS: Final = 275
WRITE_NS: Final = 110_000

TRANSACTION: Final[Cost] = (59_000, 1, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (26_500, 3, 0, 0, 2), "others": (2_500, 0, 0, 0, 0)},
    "AsMulti": {"": (67_500, 4, 0, 0, 4), "held": (395, 0, 0, 0, 0), "others": (2_350, 0, 0, 0, 0)},
    "BatchAll": {"": (2_300, 0, 0, 0, 0), "calls": (7_000, 0, 0, 0, 0)},
    "BatchEach": {"": (4_100, 0, 0, 0, 0), "calls": (7_900, 0, 0, 0, 0)},
    "Bond": {"": (79_000, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (35_500, 2, 0, 0, 2), "others": (1_750, 0, 0, 0, 0)},
    "ClaimRewards": {"": (505_000, 21, 1, 8, 21)},
    "CloseSession": {"": (16_500, 4, 0, 0, 3)},
    "CommitVerdict": {"": (120_000, 2, 0, 0, 2)},
    "Delegate": {"": (670_000, 23, 1, 8, 21)},
    "OpenSession": {"": (89_500, 17, 1, 2, 12)},
    "ProposeParams": {"": (335_000, 116, 2, 0, 10), "changes": (25_500, 0, 0, 0, 1)},
    "Redelegate": {"": (1_750_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (27_000, 2, 0, 0, 2), "bytes": (82, 0, 0, 0, 0)},
    "RegisterValidator": {"": (74_500, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (9_700, 2, 0, 0, 1)},
    "RegisterWorker": {"": (105_000, 6, 0, 0, 4), "addresses": (2_150, 0, 0, 0, 0)},
    "Remark": {"": (610, 0, 0, 0, 0), "bytes": (6, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (260_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (1_550, 1, 0, 0, 1)},
    "RetireWorker": {"": (93_000, 9, 0, 1, 7)},
    "RevealVerdict": {"": (1_550_000, 16, 0, 0, 13)},
    "SetCommission": {"": (7_450, 2, 0, 0, 1)},
    "Settle": {"": (0, 49, 2, 104, 41), "stages": (1_050_000, 39, 0, 1, 24)},
    "Transfer": {"": (19_500, 2, 0, 0, 1)},
    "TransferAll": {"": (18_500, 2, 0, 0, 1)},
    "Unbond": {"": (67_000, 1, 0, 0, 1)},
    "Undelegate": {"": (625_000, 23, 1, 8, 23)},
    "Unjail": {"": (6_800, 3, 0, 0, 1)},
    "UpdateWorker": {"": (30_500, 1, 0, 0, 1), "addresses": (2_750, 0, 0, 0, 0)},
    "VoteParams": {"": (38_500, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (415_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
