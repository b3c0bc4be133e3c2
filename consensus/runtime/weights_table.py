"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 56_500
READ_NS: Final = 5_050
SEEK_NS: Final = 8_150
ROW_NS: Final = 305
WRITE_NS: Final = 82_000

TRANSACTION: Final[Cost] = (48_500, 1, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (27_000, 3, 0, 0, 2), "others": (2_450, 0, 0, 0, 0)},
    "AsMulti": {"": (52_500, 4, 0, 0, 4), "held": (1_400, 0, 0, 0, 0), "others": (2_350, 0, 0, 0, 0)},
    "BatchAll": {"": (2_350, 0, 0, 0, 0), "calls": (6_800, 0, 0, 0, 0)},
    "BatchEach": {"": (3_400, 0, 0, 0, 0), "calls": (8_250, 0, 0, 0, 0)},
    "Bond": {"": (78_000, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (35_000, 2, 0, 0, 2), "others": (1_700, 0, 0, 0, 0)},
    "ClaimRewards": {"": (485_000, 21, 1, 8, 21)},
    "CloseSession": {"": (16_000, 4, 0, 0, 3)},
    "CommitVerdict": {"": (115_000, 2, 0, 0, 2)},
    "Delegate": {"": (515_000, 23, 1, 8, 21)},
    "OpenSession": {"": (105_000, 17, 1, 2, 12)},
    "ProposeParams": {"": (355_000, 116, 2, 0, 10), "changes": (31_500, 0, 0, 0, 1)},
    "Redelegate": {"": (1_450_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (28_000, 2, 0, 0, 2), "bytes": (65, 0, 0, 0, 0)},
    "RegisterValidator": {"": (73_500, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (9_600, 2, 0, 0, 1)},
    "RegisterWorker": {"": (98_500, 6, 0, 0, 4), "addresses": (3_350, 0, 0, 0, 0)},
    "Remark": {"": (175, 0, 0, 0, 0), "bytes": (7, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (265_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (1_850, 1, 0, 0, 1)},
    "RetireWorker": {"": (120_000, 9, 0, 1, 7)},
    "RevealVerdict": {"": (1_550_000, 16, 0, 0, 13)},
    "SetCommission": {"": (7_500, 2, 0, 0, 1)},
    "Settle": {"": (0, 49, 2, 104, 41), "stages": (1_250_000, 39, 0, 1, 24)},
    "Transfer": {"": (19_000, 2, 0, 0, 1)},
    "TransferAll": {"": (19_000, 2, 0, 0, 1)},
    "Unbond": {"": (65_500, 1, 0, 0, 1)},
    "Undelegate": {"": (690_000, 23, 1, 8, 23)},
    "Unjail": {"": (5_800, 3, 0, 0, 1)},
    "UpdateWorker": {"": (32_000, 1, 0, 0, 1), "addresses": (2_550, 0, 0, 0, 0)},
    "VoteParams": {"": (36_000, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (415_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
