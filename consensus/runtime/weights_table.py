"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 68_500
READ_NS: Final = 5_200
SEEK_NS: Final = 8_150
ROW_NS: Final = 280
WRITE_NS: Final = 61_500

TRANSACTION: Final[Cost] = (52_500, 1, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (25_500, 3, 0, 0, 2), "others": (2_500, 0, 0, 0, 0)},
    "AsMulti": {"": (48_500, 3, 0, 0, 3), "others": (2_400, 0, 0, 0, 0)},
    "BatchAll": {"": (2_400, 0, 0, 0, 0), "calls": (6_600, 0, 0, 0, 0)},
    "BatchEach": {"": (3_050, 0, 0, 0, 0), "calls": (7_950, 0, 0, 0, 0)},
    "Bond": {"": (77_500, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (31_000, 2, 0, 0, 2), "others": (1_700, 0, 0, 0, 0)},
    "ClaimRewards": {"": (465_000, 21, 1, 8, 21)},
    "CloseSession": {"": (16_500, 4, 0, 0, 3)},
    "CommitVerdict": {"": (120_000, 2, 0, 0, 2)},
    "Delegate": {"": (510_000, 23, 1, 8, 21)},
    "OpenSession": {"": (105_000, 17, 1, 2, 12)},
    "ProposeParams": {"": (300_000, 116, 2, 0, 10), "changes": (27_500, 0, 0, 0, 1)},
    "Redelegate": {"": (1_400_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (27_500, 2, 0, 0, 2), "bytes": (64, 0, 0, 0, 0)},
    "RegisterValidator": {"": (73_500, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (8_650, 2, 0, 0, 1)},
    "RegisterWorker": {"": (97_500, 6, 0, 0, 4), "addresses": (2_700, 0, 0, 0, 0)},
    "Remark": {"": (71, 0, 0, 0, 0), "bytes": (7, 0, 0, 0, 0)},
    "ReportEquivocation": {"": (260_000, 12, 0, 1, 8)},
    "RetireValidator": {"": (1_250, 1, 0, 0, 1)},
    "RetireWorker": {"": (87_500, 9, 0, 1, 7)},
    "RevealVerdict": {"": (1_500_000, 16, 0, 0, 13)},
    "SetCommission": {"": (7_100, 2, 0, 0, 1)},
    "Settle": {"": (0, 49, 2, 104, 41), "stages": (970_000, 39, 0, 1, 24)},
    "Transfer": {"": (18_000, 2, 0, 0, 1)},
    "TransferAll": {"": (18_500, 2, 0, 0, 1)},
    "Unbond": {"": (64_500, 1, 0, 0, 1)},
    "Undelegate": {"": (615_000, 23, 1, 8, 23)},
    "Unjail": {"": (6_000, 3, 0, 0, 1)},
    "UpdateWorker": {"": (29_000, 1, 0, 0, 1), "addresses": (2_700, 0, 0, 0, 0)},
    "VoteParams": {"": (37_500, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (415_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
