"""What the known chain is asked for its recorded answers: of each method what it does and how it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from consensus.runtime.balances.state import accounts
from consensus.runtime.system.state import now
from node.local_api.methods.all import METHODS
from node.local_api.methods.schemas import BLOCK, BLOCKS
from proto_specs.codec import encode
from proto_specs.ss58 import encode_address
from proto_specs.types import calls
from proto_specs.types.chain import Evidence, Transaction, TransactionBody, compute_extrinsic_hash, sign_transaction
from tests.unit.node.local_api.known_chain import ALICE, BOB, CLIENT, KnownChain
from tests.unit.node.local_api.test_evidence import make_evidence
from tests.unit.node.world import sign_call

UNKNOWN = "0x" + "ab" * 32
MISTYPED = "5GrwvaEF5zXb26Fz9rcQpDWS57CtERHpNehXCPcNoHGKutQX"
PRUNED, KEPT, FUTURE = 1, 8, 99
"""Heights of the known chain, whose last block is 9."""
PAGE = "http://page.example"

Params = list[Any] | dict[str, Any]


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to make. `case` says what is special about it; `headers` are those of its HTTP request."""

    method: str
    case: str
    params: Params
    headers: dict[str, str] = field(default_factory=dict)


def show(data: bytes) -> str:
    """0x hex."""
    return f"0x{data.hex()}"


def show_hash(transaction: Transaction) -> str:
    """What a transaction is asked for by."""
    return show(compute_extrinsic_hash(transaction))


def list_asks(chain: KnownChain) -> list[Ask]:
    """Everything, in the order in which it is asked; what changes the pool comes last."""
    good = list_good(chain)
    first: dict[str, list[Any]] = {}
    for one in good:
        assert isinstance(one.params, list)
        first.setdefault(one.method, one.params)
    wrong = [ask for name in sorted(METHODS) if name in first for ask in list_wrong(name, first[name])]
    return [*good, *list_named(), *wrong, *list_refused(chain), *list_removals(chain)]


def list_good(chain: KnownChain) -> list[Ask]:
    """Calls by place that are answered; the first of each method finds something."""
    return [
        Ask(name, "", params)
        for part in (_node, _blocks, _state, _transactions, _stake, _inference)
        for name, params in part(chain)
    ]


def _node(_: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    plain = ("rpc_methods", "rpc.discover", "system_name", "system_version", "system_chain", "system_properties")
    plain += ("system_health", "system_nodeRoles", "system_localListenAddresses", "state_getRuntimeVersion")
    yield from ((name, []) for name in plain)
    for name in ("system_account", "system_accountNextIndex"):
        yield name, [encode_address(ALICE.account, 42)]
        yield name, [show(bytes(32))]
    yield "system_account", [show(BOB.account), KEPT]


def _blocks(chain: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    genesis = show(chain.node.genesis.hash)
    yield "chain_getFinalizedHead", []
    for name in ("chain_getHeader", "chain_getBlock", "chain_getLightBlock", "chain_getBlockHash", "chain_getReceipts"):
        yield from ((name, params) for params in ([1], [], [0], [genesis], [FUTURE], [UNKNOWN]))
    yield "chain_getBlockHash", [[0, 9, FUTURE, None]]
    yield "chain_getReceipts", [5]


def _state(_: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    bob = show(accounts.key(BOB.account))
    for name in ("state_getStorage", "state_getStorageHash", "state_getStorageSize", "state_getReadProof"):
        yield from ((name, params) for params in ([bob], [bob, KEPT], ["0x00"]))
    yield "state_queryStorageAt", [[bob, "0x00"]]
    yield "state_queryStorageAt", [[bob], KEPT]
    yield "state_getPairs", [show(now.key)]
    yield "state_getPairs", ["0xff"]
    prefix = show(b"balances.account:")
    yield "state_getKeysPaged", [prefix, 2]
    yield "state_getKeysPaged", [prefix, 2, bob, KEPT]


def _transactions(chain: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    waiting = show(encode(chain.waiting))
    unsigned = show(encode(Transaction(chain.waiting.body, bytes(64))))
    yield "author_submitEvidence", [show(encode(make_evidence(chain.node), Evidence))]
    yield "author_pendingExtrinsics", []
    yield from (
        ("author_extrinsicStatus", [one]) for one in (show_hash(chain.first), show_hash(chain.waiting), UNKNOWN)
    )
    yield from (("author_submitExtrinsic", [show(encode(one))]) for one in (chain.waiting, chain.first))
    yield from (
        (name, [one]) for name in ("payment_queryInfo", "payment_queryFeeDetails") for one in (waiting, unsigned)
    )


def _stake(chain: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    alice, bob = encode_address(ALICE.account, 42), encode_address(BOB.account, 42)
    yield "staking_validators", []
    yield "staking_validator", [alice]
    yield "staking_validator", [bob]
    yield "staking_stake", [bob]
    yield "staking_stake", [alice, KEPT]
    yield "staking_delegations", [bob]
    yield "staking_delegations", [alice]
    yield from ((name, []) for name in ("staking_params", "params_all", "params_proposals"))
    yield "multisig_operations", [encode_address(chain.shared, 42)]
    yield "multisig_operations", [bob]


def _inference(chain: KnownChain) -> Iterator[tuple[str, list[Any]]]:
    model, session, request = map(show, (chain.model, chain.session, chain.request))
    judged, *_, waiting = map(show, chain.challenges)
    yield "balances_supply", []
    client = encode_address(CLIENT.account, 42)
    yield from (
        ("history_events", [one]) for one in (client, show(BOB.worker_key.public_key), request, "RequestSettled")
    )
    yield from (("history_events", [client, *more]) for more in ([["Transaction"]], [None, 3], [["StagePaid"], 0]))
    yield "inference_params", []
    yield "inference_models", []
    for name in ("inference_model", "inference_workers", "inference_verifiers"):
        yield from ((name, [one]) for one in (model, UNKNOWN))
    yield from (("inference_worker", [one]) for one in (show(BOB.worker_key.public_key), UNKNOWN))
    yield from (("inference_sessions", [encode_address(one.account, 42)]) for one in (CLIENT, ALICE))
    for name, known in (("session", session), ("requests", session), ("request", request), ("challenge", judged)):
        yield from ((f"inference_{name}", [one]) for one in (known, UNKNOWN))
    yield "inference_challenge", [waiting]
    for name in ("inference_challenges", "inference_standing", "inference_conduct"):
        yield from ((name, [encode_address(one.account, 42)]) for one in (ALICE, BOB))
    yield from (("inference_deposit", [one]) for one in (request, UNKNOWN))


def list_named() -> list[Ask]:
    """Parameters by name."""
    return [
        Ask("system_account", "by name", {"account": show(BOB.account), "block": KEPT}),
        Ask("state_getStorageSize", "by name", {"key": show(accounts.key(BOB.account))}),
        Ask("system_account", "a mistyped address", [MISTYPED]),
        Ask("system_account", "an unknown name", {"account": show(BOB.account), "height": KEPT}),
        Ask("state_getKeysPaged", "count too large", ["0x", 1025]),
        Ask("state_queryStorageAt", "no keys", [[]]),
        Ask("state_queryStorageAt", "list too long", [["0x00"] * 65]),
        Ask("state_queryStorageAt", "wrong key", [["0x00", "0x0"]]),
        Ask("chain_getBlockHash", "list too long", [[0] * 257]),
    ]


def list_wrong(name: str, good: list[Any]) -> Iterator[Ask]:
    """How a method refuses parameters: one too many, each of a type it has not, blocks whose state is not here."""
    takes = METHODS[name].takes
    full = [*good, *[None] * (len(takes) - len(good))]
    yield Ask(name, "one parameter too many", [*full, 1])
    for at, one in enumerate(takes):
        yield Ask(name, f"wrong {one.name}", [*full[:at], True, *full[at + 1 :]])
        if one.is_required:
            yield Ask(name, f"no {one.name}", full[:at])
    if BLOCK in takes and not name.startswith("chain_"):
        before = full[: takes.index(BLOCK)]
        for case, block in (("pruned block", PRUNED), ("block to come", FUTURE), ("unknown block", UNKNOWN)):
            yield Ask(name, case, [*before, block])
    assert BLOCKS not in takes or name.startswith("chain_")


def list_refused(chain: KnownChain) -> Iterator[Ask]:
    """Transactions that are refused, by reason."""
    genesis = chain.node.genesis.hash
    remark = calls.Remark(b"")
    nonce = chain.waiting.body.nonce
    late = TransactionBody(ALICE.account, nonce + 1, remark, 0, 1, 2)
    poor = sign_call(genesis, BOB, chain.get_next_nonce(BOB), remark, tip=2**63)
    refused = {
        "DecodeError": b"\0",
        "StaleNonce": encode(sign_call(genesis, ALICE, 0, remark)),
        "NonceTooFar": encode(sign_call(genesis, ALICE, nonce + 1_000_000, remark)),
        "ReplacementUnderpriced": encode(sign_call(genesis, ALICE, nonce, remark)),
        "CannotPayFee": encode(poor),
        "BadSignature": encode(Transaction(chain.waiting.body, bytes(64))),
        "Expired": encode(sign_transaction(late, genesis, genesis, ALICE.account_key)),
    }
    for reason, data in refused.items():
        yield Ask("author_submitExtrinsic", reason, [show(data)])
    for name in ("payment_queryInfo", "payment_queryFeeDetails"):
        yield Ask(name, "DecodeError", ["0x00"])


def list_removals(chain: KnownChain) -> list[Ask]:
    """The one unsafe method: not for a page, once for the operator; then it is submitted again."""
    name, params = "author_removeExtrinsic", [show_hash(chain.waiting)]
    return [
        Ask(name, "not the operator", list(params), {"Origin": PAGE}),
        Ask(name, "", list(params)),
        Ask(name, "", list(params)),
        *list_wrong(name, params),
        Ask("author_submitExtrinsic", "", [show(encode(chain.waiting))]),
    ]
