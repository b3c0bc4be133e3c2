"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 75_000
READ_NS: Final = 5_200
SEEK_NS: Final = 8_250
ROW_NS: Final = 320
WRITE_NS: Final = 81_500

TRANSACTION: Final[Cost] = (55_500, 1, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (35_000, 3, 0, 0, 2), "others": (4_450, 0, 0, 0, 0)},
    "AsMulti": {"": (86_500, 4, 0, 0, 4), "held": (0, 0, 0, 0, 0), "others": (4_050, 0, 0, 0, 0)},
    "BatchAll": {"": (170_000, 0, 0, 0, 0), "calls": (7_000, 0, 0, 0, 0)},
    "BatchEach": {"": (4_650, 0, 0, 0, 0), "calls": (8_250, 0, 0, 0, 0)},
    "Bond": {"": (145_000, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (50_000, 2, 0, 0, 2), "others": (2_900, 0, 0, 0, 0)},
    "ClaimRewards": {"": (755_000, 21, 1, 8, 21)},
    "CloseSession": {"": (31_500, 4, 0, 0, 3)},
    "CommitVerdict": {"": (120_000, 2, 0, 0, 2)},
    "Delegate": {"": (850_000, 23, 1, 8, 21)},
    "OpenSession": {"": (175_000, 17, 1, 2, 12)},
    "ProposeParams": {"": (765_000, 116, 2, 0, 10), "changes": (13_000, 0, 0, 0, 1)},
    "Redelegate": {"": (2_750_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (34_500, 2, 0, 0, 2), "bytes": (130, 0, 0, 0, 0)},
    "RegisterValidator": {"": (115_000, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (22_500, 2, 0, 0, 1)},
    "RegisterWorker": {"": (150_000, 6, 0, 0, 4), "addresses": (7_850, 0, 0, 0, 0)},
    "Remark": {"": (560, 0, 0, 0, 0), "bytes": (6, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (405_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (2_300, 1, 0, 0, 1)},
    "RetireWorker": {"": (165_000, 9, 0, 1, 7)},
    "RevealVerdict": {"": (2_450_000, 16, 0, 0, 13)},
    "SetCommission": {"": (12_500, 2, 0, 0, 1)},
    "Settle": {"": (625_000, 49, 2, 104, 41), "stages": (1_400_000, 39, 0, 1, 24)},
    "Transfer": {"": (34_000, 2, 0, 0, 1)},
    "TransferAll": {"": (29_000, 2, 0, 0, 1)},
    "Unbond": {"": (115_000, 1, 0, 0, 1)},
    "Undelegate": {"": (1_100_000, 23, 1, 8, 23)},
    "Unjail": {"": (12_000, 3, 0, 0, 1)},
    "UpdateWorker": {"": (60_500, 1, 0, 0, 1), "addresses": (3_650, 0, 0, 0, 0)},
    "VoteParams": {"": (72_500, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (765_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
