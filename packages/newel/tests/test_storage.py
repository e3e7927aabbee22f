"""A folder and a bucket keep the same promises: whole or not at all, durable, told apart by key."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Awaitable, Callable, Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sample_azure
from sample_azure import serving_containers
from sample_buckets import KEY, SECRET, serving_buckets
from stress.proxy import Proxy

from newel.errors import ConfigurationError, InsufficientStorage, NotFound, Unavailable
from newel.ids import uuid7
from newel.storage import CHUNK_BYTES, LocalStorage, Storage, open_storage

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def buckets(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with (
        serving_buckets(tmp_path_factory.mktemp("buckets")) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AWS_ACCESS_KEY_ID", KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        yield f"s3://files/{uuid7().hex}?endpoint={address}&region=us-east-1"


@pytest.fixture(scope="module")
def containers(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    with (
        serving_containers(tmp_path_factory.mktemp("containers")) as address,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("AZURE_STORAGE_ACCOUNT_NAME", sample_azure.ACCOUNT)
        patch.setenv("AZURE_STORAGE_ACCOUNT_KEY", sample_azure.KEY)
        yield f"az://files/{uuid7().hex}?endpoint={address}"


@pytest.fixture(params=["file", "buckets", "containers"])
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    if request.param == "file":
        return open_storage(f"file:{tmp_path / 'files'}")
    return open_storage(request.getfixturevalue(request.param))


async def content(kept: Storage, key: str, **part: int) -> bytes:
    return b"".join([chunk async for chunk in kept.read(key, **part)])


async def test_a_connection_that_ends_in_an_answer_is_no_bucket_away(buckets: str) -> None:
    address = urlsplit(buckets.partition("endpoint=")[2].partition("&")[0])
    async with Proxy((str(address.hostname), address.port or 0)) as proxy:
        through = buckets.replace(f":{address.port}", f":{proxy.port}")
        # Answers of several lengths, so that some end in the body: obstore asks again for a head.
        kept: list[Any] = [
            open_storage(through.replace("?", f"{'x' * n}?")) for n in range(0, 90, 9)
        ]
        await kept[0].put("cut/a", io.BytesIO(b"a"))  # makes the bucket
        await proxy.switch("cut")
        await often([one.ping for one in kept])
        with pytest.raises(Unavailable):  # what is not asked again
            await often([one._ask for one in kept])


async def often(calls: Sequence[Callable[[], Awaitable[None]]]) -> None:
    for call in calls:
        for _ in range(20):
            await call()


async def test_what_is_put_is_read_again(kept: Storage) -> None:
    for size in (0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7):
        body = os.urandom(size)
        await kept.put(f"2026/01/{size}", io.BytesIO(body))
        assert await content(kept, f"2026/01/{size}") == body


async def test_a_large_object_comes_in_pieces(kept: Storage) -> None:
    await kept.put("large/one", io.BytesIO(b"x" * 12_000_000))
    sizes = [len(chunk) async for chunk in kept.read("large/one")]
    assert sum(sizes) == 12_000_000
    assert max(sizes) <= 2_000_000


async def test_a_part_of_it(kept: Storage) -> None:
    await kept.put("parts/a", io.BytesIO(b"0123456789"))
    assert await content(kept, "parts/a", start=3) == b"3456789"
    assert await content(kept, "parts/a", start=3, stop=5) == b"34"
    assert await content(kept, "parts/a", start=0, stop=10) == b"0123456789"
    assert await content(kept, "parts/a", start=0, stop=0) == b""


async def test_what_was_never_put_is_not_found(kept: Storage) -> None:
    with pytest.raises(NotFound):
        await content(kept, "never/put")


async def test_what_was_deleted_is_gone_and_may_be_deleted_again(kept: Storage) -> None:
    await kept.put("gone/a", io.BytesIO(b"a"))
    await kept.delete("gone/a")
    await kept.delete("gone/a")
    with pytest.raises(NotFound):
        await content(kept, "gone/a")


async def test_keys_of_one_prefix(kept: Storage) -> None:
    for key in ("listed/01/a", "listed/01/b", "listed/02/c"):
        await kept.put(key, io.BytesIO(b"a"))
    assert {key async for key in kept.keys("listed/01")} == {"listed/01/a", "listed/01/b"}
    assert [key async for key in kept.keys("listed/03")] == []
    everything = {key async for key in kept.keys("")}
    assert everything >= {"listed/01/a", "listed/01/b", "listed/02/c"}


async def test_it_answers(kept: Storage) -> None:
    await kept.put("answers/a", io.BytesIO(b"a"))  # this S3 makes its bucket with the first object
    await kept.ping()


async def test_a_bucket_that_is_away(buckets: str) -> None:
    away = open_storage("s3://files/x?endpoint=http://127.0.0.1:1&region=us-east-1")
    with pytest.raises(Unavailable):
        await away.ping()


class TestFolder:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "files"

    @pytest.mark.parametrize(
        ("number", "error"),
        [
            (errno.ENOSPC, InsufficientStorage),
            (errno.EDQUOT, InsufficientStorage),
            (errno.EIO, Unavailable),
        ],
    )
    async def test_a_disk_that_fails_leaves_nothing_half_written(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, number: int, error: type[Exception]
    ) -> None:
        def full(_descriptor: int) -> None:
            raise OSError(number, "no")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(error):
            await LocalStorage(folder).put("a/b", io.BytesIO(b"x" * 100))
        assert self.files_in(folder) == []

    async def test_the_disk_has_it_before_it_has_its_name(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        order: list[str] = []
        synchronise, rename = os.fsync, Path.replace

        def fsync(descriptor: int) -> None:
            order.append("fsync")
            synchronise(descriptor)

        def replace(path: Path, target: Any) -> Any:
            order.append("rename")
            return rename(path, target)

        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(Path, "replace", replace)
        await LocalStorage(folder).put("a/b", io.BytesIO(b"x"))
        assert order[:2] == ["fsync", "rename"], "the bytes, then the name"
        assert order[2:] == ["fsync"] * 3, "then each folder that is new or has a new name"

    @staticmethod
    def files_in(folder: Path) -> list[Path]:
        return [path for path in folder.rglob("*") if path.is_file()]

    @staticmethod
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    async def test_a_reader_that_stops_leaves_no_open_file(self, folder: Path) -> None:
        kept = LocalStorage(folder)
        await kept.put("a/b", io.BytesIO(b"x" * CHUNK_BYTES * 3))
        before = self.open_files()
        reading = kept.read("a/b")
        await anext(reading)
        await reading.aclose()
        assert self.open_files() == before

    @pytest.fixture
    def in_its_place(self, folder: Path) -> None:
        folder.write_text("a file, no folder")

    @pytest.mark.usefixtures("in_its_place")
    async def test_a_folder_that_cannot_be_written(self, folder: Path) -> None:
        with pytest.raises(Unavailable):
            await LocalStorage(folder).ping()


@pytest.mark.parametrize("url", ["", "file:", "ftp://host/x", "s3:", "s3:///x", "/srv/files"])
def test_an_address_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="STORAGE_URL"):
        open_storage(url)


def test_a_driver_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "newel.drivers.objects", None)
    with pytest.raises(ConfigurationError, match="not installed"):
        open_storage("s3://bucket/x")


@pytest.mark.parametrize("url", ["file:./files", "file:files", "file:///srv/files"])
def test_a_folder_is_made_with_the_first_file_only(url: str) -> None:
    assert isinstance(open_storage(url), LocalStorage)
    assert not Path("files").exists()
