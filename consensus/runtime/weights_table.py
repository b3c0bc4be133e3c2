"""Made by `make weights` from benchmarks/weights/measured.json: change the code or the scenarios, never this file.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts; taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 56_500
READ_NS: Final = 7_150
SEEK_NS: Final = 12_000
ROW_NS: Final = 505
WRITE_NS: Final = 88_000

TRANSACTION: Final[Cost] = (64_000, 1, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (28_000, 3, 0, 0, 2), "others": (3_400, 0, 0, 0, 0)},
    "AsMulti": {"": (79_000, 3, 0, 0, 3), "others": (2_500, 0, 0, 0, 0)},
    "BatchAll": {"": (1_150, 0, 0, 0, 0), "calls": (6_550, 0, 0, 0, 0)},
    "BatchEach": {"": (85_500, 0, 0, 0, 0), "calls": (9_100, 0, 0, 0, 0)},
    "Bond": {"": (76_500, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (35_000, 2, 0, 0, 2), "others": (2_350, 0, 0, 0, 0)},
    "ClaimRewards": {"": (470_000, 21, 1, 8, 21)},
    "CloseSession": {"": (12_000, 4, 0, 0, 3)},
    "CommitVerdict": {"": (120_000, 2, 0, 0, 2)},
    "Delegate": {"": (590_000, 23, 1, 8, 21)},
    "OpenSession": {"": (110_000, 17, 1, 2, 12)},
    "ProposeParams": {"": (1_100_000, 216, 2, 200, 110), "changes": (12_000, 0, 0, 0, 1)},
    "Redelegate": {"": (1_650_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (41_500, 2, 0, 0, 2), "bytes": (66, 0, 0, 0, 0)},
    "RegisterValidator": {"": (73_000, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (9_050, 2, 0, 0, 1)},
    "RegisterWorker": {"": (110_000, 6, 0, 0, 4), "addresses": (3_450, 0, 0, 0, 0)},
    "Remark": {"": (0, 0, 0, 0, 0), "bytes": (1, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (285_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (0, 1, 0, 0, 1)},
    "RetireWorker": {"": (210_000, 9, 0, 1, 7)},
    "RevealVerdict": {"": (1_550_000, 15, 0, 0, 12)},
    "SetCommission": {"": (3_050, 2, 0, 0, 1)},
    "Settle": {"": (0, 152, 1, 4, 44), "stages": (1_100_000, 39, 0, 1, 24)},
    "Transfer": {"": (19_000, 2, 0, 0, 1)},
    "TransferAll": {"": (14_500, 2, 0, 0, 1)},
    "Unbond": {"": (61_500, 1, 0, 0, 1)},
    "Undelegate": {"": (610_000, 23, 1, 8, 23)},
    "Unjail": {"": (1_900, 3, 0, 0, 1)},
    "UpdateWorker": {"": (24_500, 1, 0, 0, 1), "addresses": (3_450, 0, 0, 0, 0)},
    "VoteParams": {"": (30_000, 2, 0, 0, 1)},
    "WithdrawUnbonded": {"": (415_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
