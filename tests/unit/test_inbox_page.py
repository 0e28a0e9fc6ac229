"""The figures of docs/inbox.md are those of the code."""

import pytest

from nodes.solana.program import LOADED_BYTES_LIMIT, posting_call
from nodes.solana.transactions import Budget, LookupTable, draft
from tests.support.inbox_page import IDS, INBOX, PAGE, PAYER, TABLE, TABLES, found_in, room

TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_has_every_table() -> None:
    assert sorted(found_in(TEXT)) == sorted(TABLES)


@pytest.mark.parametrize("name", sorted(TABLES))
def test_a_table_of_the_page_is_what_the_code_gives(name: str) -> None:
    assert found_in(TEXT)[name] == TABLES[name](), "run: python -m tests.support.inbox_page"


@pytest.mark.parametrize("rollups", [0, 1, 2, 16])
@pytest.mark.parametrize("tables", [(), (TABLE,)])
def test_the_room_is_exact(rollups: int, tables: tuple[LookupTable, ...]) -> None:
    budget = Budget(cu_limit=1, cu_price_micro_lamports=1, loaded_bytes_limit=LOADED_BYTES_LIMIT)
    data = bytes(room(rollups, tables=tables))
    sizes = [
        draft(PAYER, [posting_call(PAYER, INBOX, IDS[:rollups], body)], budget=budget, tables=tables).size
        for body in (data, data[1:])
    ]
    assert sizes == [1232, 1231]
