"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 39_500
READ_NS: Final = 3_600
SEEK_NS: Final = 5_000
ROW_NS: Final = 175
WRITE_NS: Final = 46_500

TRANSACTION: Final[Cost] = (47_500, 2, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (25_000, 3, 0, 0, 2), "others": (1_650, 0, 0, 0, 0)},
    "AsMulti": {"": (46_500, 4, 0, 0, 4), "held": (195, 0, 0, 0, 0), "others": (1_600, 0, 0, 0, 0)},
    "BatchAll": {"": (5_100, 0, 0, 0, 0), "calls": (4_950, 0, 0, 0, 0)},
    "BatchEach": {"": (4_150, 0, 0, 0, 0), "calls": (5_650, 0, 0, 0, 0)},
    "Bond": {"": (60_500, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (30_500, 2, 0, 0, 2), "others": (1_150, 0, 0, 0, 0)},
    "ClaimRewards": {"": (375_000, 21, 1, 8, 21)},
    "CloseSession": {"": (20_500, 5, 0, 0, 3)},
    "CommitVerdict": {"": (96_500, 5, 0, 0, 2)},
    "Delegate": {"": (420_000, 23, 1, 8, 21)},
    "JoinSettlement": {
        "": (2_250_000, 136, 8, 25, 83),
        "path": (42_500, 3, 1, 1, 1),
        "stages": (1_550_000, 36, 3, 12, 18),
    },
    "LeaveWorker": {"": (39_500, 4, 1, 0, 4)},
    "MoveWorker": {"": (37_000, 4, 1, 0, 2)},
    "OpenSession": {"": (185_000, 32, 4, 6, 17)},
    "ProposeParams": {"": (280_000, 118, 2, 0, 10), "changes": (22_500, 0, 0, 0, 1)},
    "Redelegate": {"": (1_100_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (37_000, 2, 0, 0, 2), "bytes": (63, 0, 0, 0, 0)},
    "RegisterValidator": {"": (54_500, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (19_500, 4, 1, 1, 2)},
    "RegisterWorker": {"": (81_500, 9, 0, 0, 7), "addresses": (2_100, 0, 0, 0, 0)},
    "Remark": {"": (20, 0, 0, 0, 0), "bytes": (4, 0, 0, 0, 0)},
    "ReportAbsent": {"": (340_000, 77, 6, 234, 72)},
    "ReportDoublePromise": {"": (2_250_000, 5, 0, 0, 3), "path": (22_000, 2, 0, 0, 1)},
    "ReportEquivocation": {"": (225_000, 19, 1, 2, 12)},
    "RetireValidator": {"": (1_600, 1, 0, 0, 1)},
    "RetireWorker": {"": (110_000, 16, 2, 2, 11)},
    "RevealVerdict": {"": (2_100_000, 24, 0, 0, 18)},
    "SetCommission": {"": (6_850, 2, 0, 0, 1)},
    "Settle": {"": (775_000, 100, 6, 14, 66), "stages": (1_550_000, 36, 3, 12, 23)},
    "SettleStatement": {
        "": (1_400_000, 144, 11, 27, 85),
        "chunks": (6_600, 2, 0, 1, 2),
        "stages": (1_750_000, 36, 3, 12, 23),
    },
    "TopUpSession": {"": (38_000, 4, 0, 0, 3)},
    "Transfer": {"": (15_500, 2, 0, 0, 1)},
    "TransferAll": {"": (16_000, 2, 0, 0, 1)},
    "Unbond": {"": (49_500, 1, 0, 0, 1)},
    "Undelegate": {"": (490_000, 23, 1, 8, 23)},
    "Unjail": {"": (5_450, 3, 0, 0, 1)},
    "UnregisterVerifier": {"": (36_500, 11, 3, 4, 6)},
    "UpdateWorker": {"": (45_000, 5, 0, 0, 4), "addresses": (2_000, 0, 0, 0, 0)},
    "VoteParams": {"": (31_000, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (335_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
