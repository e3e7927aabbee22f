"""The prover changes an application's rows by an engine that may, whichever was made first."""

import asyncio
import importlib
import sys
from pathlib import Path

import pytest

from newel_tools.prove.host.record import Places
from newel_tools.prove.host.rows import Rows

STORE = """
from sqlalchemy import Column, Integer, MetaData, Table, create_engine, event

url = "sqlite:///{folder}/notes.db"
reader = create_engine(url, isolation_level="AUTOCOMMIT")
event.listen(reader, "connect", lambda connection, _: connection.execute("PRAGMA query_only = ON"))
writer = create_engine(url)
metadata = MetaData()
notes = Table("notes", metadata, Column("id", Integer, primary_key=True), Column("stars", Integer))
metadata.create_all(writer)
with writer.begin() as connection:
    connection.execute(notes.insert().values(id=1, stars=0))
"""


def test_an_engine_that_only_reads_is_not_asked_to_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "note_store.py").write_text(STORE.format(folder=tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "note_store", raising=False)
    store, rows = importlib.import_module("note_store"), Rows()
    rows.look(Places(str(tmp_path)))
    changed = asyncio.run(rows.update("notes", {"id": 1}, {"stars": 5}))
    found = asyncio.run(rows.select("notes", {}))
    store.reader.dispose()
    store.writer.dispose()
    del sys.modules["note_store"]

    assert changed == 1
    assert found == [{"id": 1, "stars": 5}]
