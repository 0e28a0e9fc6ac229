"""Methods that read accounts, of any program and of the token programs."""

from collections.abc import Callable

from solders.account import Account
from solders.pubkey import Pubkey

from nodes.json_rpc.faults import invalid_params
from nodes.solana.devnode.rpc.accounts import account_encoding, account_filter, account_json, data_slice
from nodes.solana.devnode.rpc.params import Config, Params, as_pubkey
from nodes.solana.devnode.rpc.parsed_accounts import (
    Mint,
    TokenAccount,
    mint_of,
    read_mint,
    read_token_account,
    token_amount,
)
from nodes.solana.devnode.rpc.programs import SYSTEM, TOKEN_PROGRAMS
from nodes.solana.devnode.rpc.view import Handlers, Json, RpcView, Steps
from nodes.solana.devnode.values import Level

MAX_MULTIPLE_ACCOUNTS = 100
LARGEST = 20
STEP_ACCOUNTS = 256
"""Shown before others get their turn."""


class StateMethods:
    """Reads of one chain's accounts."""

    def __init__(self, view: RpcView) -> None:
        self._view = view
        self._chain = view.chain

    def table(self) -> Handlers:
        """Every method of this group by name."""
        return {
            "getAccountInfo": self.account_info,
            "getMultipleAccounts": self.multiple_accounts,
            "getProgramAccounts": self.program_accounts,
            "getBalance": self.balance,
            "getMinimumBalanceForRentExemption": self.minimum_balance,
            "getLargestAccounts": self.largest_accounts,
            "getTokenAccountBalance": self.token_account_balance,
            "getTokenSupply": self.token_supply,
            "getTokenLargestAccounts": self.token_largest_accounts,
            "getTokenAccountsByOwner": self.token_accounts_by_owner,
            "getTokenAccountsByDelegate": self.token_accounts_by_delegate,
        }

    def _shown(self, level: Level, config: Config, *, default: str) -> Callable[[Pubkey, Account], Json]:
        encoding, part, lookup = account_encoding(config, default=default), data_slice(config), self._view.lookup(level)
        return lambda key, account: account_json(key, account, encoding=encoding, part=part, lookup=lookup)

    def account_info(self, params: Params) -> Json:
        """One account; null where there is none."""
        key, config = params.pubkey(0), params.config(1)
        level = self._view.level_of(config)
        show = self._shown(level, config, default="binary")
        account = self._chain.account(key, level)
        return self._view.with_context(level, None if account is None else show(key, account))

    def multiple_accounts(self, params: Params) -> Json:
        """Several accounts of one moment, null for each that is none."""
        keys = [as_pubkey(item) for item in params.items(0, at_most=MAX_MULTIPLE_ACCOUNTS)]
        config = params.config(1)
        level = self._view.level_of(config)
        show = self._shown(level, config, default="base64")
        accounts = self._chain.accounts(keys, level)
        shown = [None if account is None else show(key, account) for key, account in zip(keys, accounts)]
        return self._view.with_context(level, shown)

    def program_accounts(self, params: Params) -> Steps:
        """Every account that a program owns and that passes the filters."""
        program, config = params.pubkey(0), params.config(1)
        level = self._view.level_of(config)
        is_wanted, show = account_filter(config), self._shown(level, config, default="binary")
        with_context, context = config.flag("withContext"), self._view.context(level)
        owned = self._owned(program, level, sort=config.flag("sortResults", default=True))
        shown = []
        for count, (key, account) in enumerate(owned, 1):
            if is_wanted(bytes(account.data)):
                shown.append({"pubkey": str(key), "account": show(key, account)})
            if count % STEP_ACCOUNTS == 0:
                yield
        return {"context": context, "value": shown} if with_context else shown

    def _owned(self, program: Pubkey, level: Level, *, sort: bool = True) -> list[tuple[Pubkey, Account]]:
        found = self._chain.program_accounts(program, level)
        return sorted(found, key=lambda item: bytes(item[0])) if sort else found

    def balance(self, params: Params) -> Json:
        """Lamports of an account; 0 where there is none."""
        key, config = params.pubkey(0), params.config(1)
        level = self._view.level_of(config)
        account = self._chain.account(key, level)
        return self._view.with_context(level, 0 if account is None else account.lamports)

    def minimum_balance(self, params: Params) -> int:
        """Lamports that an account of so many bytes must hold."""
        return self._chain.minimum_balance(params.number(0))

    def largest_accounts(self, params: Params) -> Json:
        """The richest accounts of the System program; programs' own accounts hold no more than their rent."""
        config = params.config(0)
        level = self._view.level_of(config)
        chosen = config.text("filter")
        if chosen not in (None, "circulating", "nonCirculating"):
            raise invalid_params(f"Invalid params: unknown variant `{chosen}`, expected circulating or nonCirculating.")
        # Every lamport circulates here: nothing is locked up and nothing is staked.
        owned = [] if chosen == "nonCirculating" else self._owned(Pubkey.from_string(SYSTEM), level)
        owned.sort(key=lambda item: -item[1].lamports)
        shown = [{"address": str(key), "lamports": account.lamports} for key, account in owned[:LARGEST]]
        return self._view.with_context(level, shown)

    # Tokens.

    def _mint(self, key: Pubkey, level: Level) -> Mint:
        account = self._chain.account(key, level)
        if account is None:
            raise invalid_params("Invalid param: could not find mint")
        mint = read_mint(str(account.owner), bytes(account.data))
        if mint is None:
            raise invalid_params("Invalid param: not a Token mint")
        return mint

    def token_account_balance(self, params: Params) -> Json:
        """What a token account holds."""
        key, level = params.pubkey(0), self._view.level_of(params.config(1))
        account = self._chain.account(key, level)
        if account is None:
            raise invalid_params("Invalid param: could not find account")
        holding = read_token_account(str(account.owner), bytes(account.data))
        if holding is None:
            raise invalid_params("Invalid param: not a Token account")
        mint = self._mint(holding.mint, level)
        return self._view.with_context(level, token_amount(holding.amount, mint.decimals))

    def token_supply(self, params: Params) -> Json:
        """How much of a token there is."""
        key, level = params.pubkey(0), self._view.level_of(params.config(1))
        mint = self._mint(key, level)
        return self._view.with_context(level, token_amount(mint.supply, mint.decimals))

    def token_largest_accounts(self, params: Params) -> Json:
        """The accounts that hold most of a token."""
        key, level = params.pubkey(0), self._view.level_of(params.config(1))
        mint = self._mint(key, level)
        account = self._chain.account(key, level)
        assert account is not None, "the mint was read from it"
        held = self._holdings(account.owner, level, lambda holding: holding.mint == key)
        held.sort(key=lambda item: (-item[2].amount, bytes(item[0])))
        shown = [
            {"address": str(address)} | token_amount(holding.amount, mint.decimals)
            for address, _, holding in held[:LARGEST]
        ]
        return self._view.with_context(level, shown)

    def token_accounts_by_owner(self, params: Params) -> Json:
        """Token accounts of an owner."""
        owner = params.pubkey(0)
        return self._token_accounts(params, lambda holding: holding.owner == owner)

    def token_accounts_by_delegate(self, params: Params) -> Json:
        """Token accounts that a delegate may spend from."""
        delegate = params.pubkey(0)
        return self._token_accounts(params, lambda holding: holding.delegate == delegate)

    def _token_accounts(self, params: Params, is_wanted: Callable[[TokenAccount], bool]) -> Json:
        chosen, config = params.config(1), params.config(2)
        level = self._view.level_of(config)
        program, mint = self._token_choice(chosen, level)
        show = self._shown(level, config, default="binary")
        held = self._holdings(
            program, level, lambda holding: is_wanted(holding) and (mint is None or holding.mint == mint)
        )
        shown = [{"pubkey": str(key), "account": show(key, account)} for key, account, _ in held]
        return self._view.with_context(level, shown)

    def _token_choice(self, chosen: Config, level: Level) -> tuple[Pubkey, Pubkey | None]:
        """The token program and, where one is asked for, the mint. Raises RpcFault."""
        if chosen.get("mint") is not None:
            mint = as_pubkey(chosen["mint"])
            if mint_of(self._view.lookup(level), mint) is None:
                raise invalid_params("Invalid param: could not find mint")
            account = self._chain.account(mint, level)
            assert account is not None, "the mint was read from it"
            return account.owner, mint
        if chosen.get("programId") is None:
            raise invalid_params("Invalid params: the second parameter names a mint or a programId.")
        program = as_pubkey(chosen["programId"])
        if str(program) not in TOKEN_PROGRAMS:
            raise invalid_params("Invalid param: unrecognized Token program id")
        return program, None

    def _holdings(
        self, program: Pubkey, level: Level, is_wanted: Callable[[TokenAccount], bool]
    ) -> list[tuple[Pubkey, Account, TokenAccount]]:
        found = []
        for key, account in self._owned(program, level):
            holding = read_token_account(str(program), bytes(account.data))
            if holding is not None and is_wanted(holding):
                found.append((key, account, holding))
        return found
