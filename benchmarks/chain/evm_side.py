"""Runs in the virtual environment of the Ethereum peers, not in ours: signs transfers for anvil, runs py-evm.

`python evm_side.py sign ACCOUNTS EACH CHAIN_ID` prints a JSON list of lists of raw transactions, one list an account.
`python evm_side.py execute TRANSFERS REPEATS` prints the transfers a second that py-evm puts into blocks, as JSON.
"""

import json
import statistics
import sys
import time

from eth import constants
from eth.chains.base import MiningChain
from eth.consensus.noproof import NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.vm.forks.istanbul import IstanbulVM
from eth_account import Account
from eth_keys import keys

MNEMONIC = "test test test test test test test test test test test junk"
"""The mnemonic of anvil's own development accounts."""
GAS = 21_000
GAS_PRICE = 2_000_000_000


def sign(accounts: int, each: int, chain_id: int) -> list[list[str]]:
    """Each account's transfers to the next account, in order of nonces."""
    Account.enable_unaudited_hdwallet_features()
    found = [Account.from_mnemonic(MNEMONIC, account_path=f"m/44'/60'/0'/0/{number}") for number in range(accounts)]
    signed = []
    for place, one in enumerate(found):
        fields = {"to": found[(place + 1) % accounts].address, "value": 1, "gas": GAS, "gasPrice": GAS_PRICE}
        signed.append(
            [
                "0x" + one.sign_transaction({**fields, "nonce": nonce, "chainId": chain_id}).raw_transaction.hex()
                for nonce in range(each)
            ]
        )
    return signed


def execute(transfers: int, repeats: int) -> dict[str, float]:
    """Transfers of an account into blocks of 1,000 in memory; py-evm checks the signatures, as it always does."""
    rates = []
    for _ in range(repeats):
        source, dest = keys.PrivateKey(b"\1" * 32), keys.PrivateKey(b"\2" * 32).public_key.to_canonical_address()
        vm = IstanbulVM.configure(consensus_class=NoProofConsensus)
        chain_class = MiningChain.configure(
            __name__="Peer", vm_configuration=((constants.GENESIS_BLOCK_NUMBER, vm),), chain_id=1
        )
        genesis = {"difficulty": 1, "gas_limit": 10**10, "timestamp": 1}
        state = {source.public_key.to_canonical_address(): {"balance": 10**24, "nonce": 0, "code": b"", "storage": {}}}
        chain = chain_class.from_genesis(AtomicDB(), genesis, state)
        signed = [
            chain.get_vm()
            .create_unsigned_transaction(nonce=nonce, gas_price=1, gas=GAS, to=dest, value=1, data=b"")
            .as_signed_transaction(source)
            for nonce in range(transfers)
        ]
        started_s = time.perf_counter()
        for at in range(0, transfers, 1_000):
            chain.mine_all(signed[at : at + 1_000])
        rates.append(transfers / (time.perf_counter() - started_s))
        assert chain.get_vm().state.get_nonce(source.public_key.to_canonical_address()) == transfers
    return {"per_s": round(statistics.median(rates), 1), "repeats": repeats}


if __name__ == "__main__":
    asked, *numbers = sys.argv[1:]
    print(json.dumps(sign(*map(int, numbers)) if asked == "sign" else execute(*map(int, numbers))))
