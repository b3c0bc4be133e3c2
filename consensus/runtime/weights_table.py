"""Made by `make weights` of what benchmarks/weights/measured.json records: never change this file by hand.

Measured on AMD EPYC, CPython 3.11.7, with a state of 1,000,000 accounts.
Taken as given: 5 committee seats, 20 unbonding epochs, 100 validators.
"""

from __future__ import annotations

from typing import Final

Cost = tuple[int, int, int, int, int]
"""(nanoseconds with the state in memory, keys read, ranges opened, rows met in them, keys changed)."""

SIGNATURE_NS: Final = 56_000
READ_NS: Final = 4_300
SEEK_NS: Final = 7_050
ROW_NS: Final = 265
WRITE_NS: Final = 41_500

TRANSACTION: Final[Cost] = (50_000, 2, 0, 0, 1)
"""An empty transaction, its signature aside."""

CALLS: Final[dict[str, dict[str, Cost]]] = {
    "ApproveAsMulti": {"": (25_500, 3, 0, 0, 2), "others": (2_450, 0, 0, 0, 0)},
    "AsMulti": {"": (48_500, 4, 0, 0, 4), "held": (580, 0, 0, 0, 0), "others": (2_350, 0, 0, 0, 0)},
    "BatchAll": {"": (2_150, 0, 0, 0, 0), "calls": (6_600, 0, 0, 0, 0)},
    "BatchEach": {"": (4_950, 0, 0, 0, 0), "calls": (7_800, 0, 0, 0, 0)},
    "Bond": {"": (77_500, 2, 0, 0, 2)},
    "CancelAsMulti": {"": (30_000, 2, 0, 0, 2), "others": (1_750, 0, 0, 0, 0)},
    "ClaimRewards": {"": (450_000, 21, 1, 8, 21)},
    "CloseSession": {"": (16_000, 4, 0, 0, 3)},
    "CommitVerdict": {"": (115_000, 2, 0, 0, 2)},
    "Delegate": {"": (505_000, 23, 1, 8, 21)},
    "JoinSettlement": {
        "": (2_200_000, 83, 3, 15, 61),
        "path": (45_000, 3, 0, 0, 0),
        "stages": (1_300_000, 34, 1, 6, 17),
    },
    "LeaveWorker": {"": (37_000, 4, 1, 0, 4)},
    "MoveWorker": {"": (34_500, 4, 1, 0, 2)},
    "OpenSession": {"": (97_500, 17, 1, 2, 12)},
    "ProposeParams": {"": (330_000, 116, 2, 0, 10), "changes": (24_000, 0, 0, 0, 1)},
    "Redelegate": {"": (1_350_000, 44, 3, 78, 26)},
    "RegisterModel": {"": (30_000, 2, 0, 0, 2), "bytes": (61, 0, 0, 0, 0)},
    "RegisterValidator": {"": (72_000, 5, 0, 0, 3)},
    "RegisterVerifier": {"": (9_200, 2, 0, 0, 1)},
    "RegisterWorker": {"": (105_000, 9, 0, 0, 7), "addresses": (2_800, 0, 0, 0, 0)},
    "Remark": {"": (0, 0, 0, 0, 0), "bytes": (6, 0, 0, 0, 0)},
    "ReportAbsent": {"": (305_000, 75, 4, 233, 72)},
    "ReportDoublePromise": {"": (345_000, 10, 0, 0, 8), "path": (18_000, 2, 0, 0, 1)},
    "ReportEquivocation": {"": (270_000, 15, 0, 1, 11)},
    "RetireValidator": {"": (1_500, 1, 0, 0, 1)},
    "RetireWorker": {"": (88_500, 12, 1, 1, 10)},
    "RevealVerdict": {"": (1_550_000, 16, 0, 0, 13)},
    "SetCommission": {"": (7_150, 2, 0, 0, 1)},
    "Settle": {"": (965_000, 50, 2, 9, 42), "stages": (1_300_000, 35, 1, 6, 22)},
    "SettleStatement": {
        "": (975_000, 89, 3, 15, 60),
        "chunks": (7_500, 2, 0, 1, 2),
        "stages": (1_200_000, 35, 1, 6, 22),
    },
    "TopUpSession": {"": (26_000, 2, 0, 0, 2)},
    "Transfer": {"": (17_500, 2, 0, 0, 1)},
    "TransferAll": {"": (18_000, 2, 0, 0, 1)},
    "Unbond": {"": (65_000, 1, 0, 0, 1)},
    "Undelegate": {"": (610_000, 23, 1, 8, 23)},
    "Unjail": {"": (5_950, 3, 0, 0, 1)},
    "UnregisterVerifier": {"": (30_000, 7, 1, 1, 5)},
    "UpdateWorker": {"": (43_000, 5, 0, 0, 4), "addresses": (2_000, 0, 0, 0, 0)},
    "VoteParams": {"": (37_000, 3, 0, 2, 2)},
    "WithdrawUnbonded": {"": (415_000, 62, 0, 0, 4)},
}
"""What each call adds to that: under "" once, under a component's name for each one of it."""
