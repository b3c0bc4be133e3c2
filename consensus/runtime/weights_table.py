"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 56_500
READ_NS: Final = 4_750
SEEK_NS: Final = 11_500
ROW_NS: Final = 710
WRITE_NS: Final = 78_500

TRANSACTION: Final[Cost] = (52_500, 2, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (28_500, 3, 0, 0, 2), "others": (2_400, 0, 0, 0, 0)},
    "AsMulti": {"": (54_500, 4, 0, 0, 4), "held": (1_100, 0, 0, 0, 0), "others": (2_300, 0, 0, 0, 0)},
    "BatchAll": {"": (1_500, 0, 0, 0, 0), "calls": (8_100, 0, 0, 0, 0)},
    "BatchEach": {"": (3_700, 0, 0, 0, 0), "calls": (8_200, 0, 0, 0, 0)},
    "Bond": {"": (115_000, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (34_000, 2, 0, 0, 2), "others": (1_700, 0, 0, 0, 0)},
    "ClaimRewards": {"": (455_000, 21, 1, 8, 21)},
    "CloseSession": {"": (19_500, 4, 0, 0, 3)},
    "CommitVerdict": {"": (120_000, 2, 0, 0, 2)},
    "Delegate": {"": (510_000, 23, 1, 8, 21)},
    "OpenSession": {"": (110_000, 17, 1, 2, 12)},
    "ProposeParams": {"": (215_000, 116, 2, 0, 10), "changes": (48_000, 0, 0, 0, 1)},
    "Redelegate": {"": (1_600_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (26_500, 2, 0, 0, 2), "bytes": (73, 0, 0, 0, 0)},
    "RegisterValidator": {"": (76_500, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (9_400, 2, 0, 0, 1)},
    "RegisterWorker": {"": (98_500, 6, 0, 0, 4), "addresses": (2_750, 0, 0, 0, 0)},
    "Remark": {"": (375, 0, 0, 0, 0), "bytes": (6, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (270_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (1_400, 1, 0, 0, 1)},
    "RetireWorker": {"": (94_000, 9, 0, 1, 7)},
    "RevealVerdict": {"": (1_600_000, 16, 0, 0, 13)},
    "SetCommission": {"": (9_150, 2, 0, 0, 1)},
    "Settle": {"": (0, 49, 2, 104, 41), "stages": (985_000, 39, 0, 1, 24)},
    "Transfer": {"": (19_000, 2, 0, 0, 1)},
    "TransferAll": {"": (21_000, 2, 0, 0, 1)},
    "Unbond": {"": (72_000, 1, 0, 0, 1)},
    "Undelegate": {"": (620_000, 23, 1, 8, 23)},
    "Unjail": {"": (6_650, 3, 0, 0, 1)},
    "UpdateWorker": {"": (30_000, 1, 0, 0, 1), "addresses": (2_850, 0, 0, 0, 0)},
    "VoteParams": {"": (38_000, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (420_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
