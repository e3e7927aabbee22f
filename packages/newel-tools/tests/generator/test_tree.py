"""Writing a tree: what a user finds on disk afterwards, whatever went wrong."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from newel_tools.generator.files import File
from newel_tools.generator.tree import (
    MANIFEST,
    TreeError,
    ensure_usable,
    files_of,
    keep,
    settle,
    staged,
    write,
)

FILES = (
    File("pyproject.toml", "[project]\n"),
    File("src/shop/main.py", "app = 1\n"),
    File("migrations/0001_initial.py", "one\n"),
    File(".env", "SECRET_KEY=first\n", 0o600),
)


def generate(directory: Path, files: Sequence[File] = FILES) -> None:
    ensure_usable(directory)
    with staged(directory) as staging:
        write(files, staging)
        settle(staging, directory, made_by="0.1.0")


def listing(root: Path) -> list[str]:
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file())


def names(root: Path) -> list[str]:
    return [path.name for path in root.iterdir()]


@pytest.mark.parametrize("prepared", ["missing", "empty", "below a missing folder"])
def test_a_tree_is_written_with_its_modes(tmp_path: Path, prepared: str) -> None:
    directory = tmp_path / ("a/b/shop" if prepared.startswith("below") else "shop")
    if prepared == "empty":
        directory.mkdir()

    generate(directory)

    assert listing(directory) == sorted([MANIFEST, *(file.path for file in FILES)])
    assert (directory / ".env").stat().st_mode & 0o777 == 0o600
    assert (directory / "src/shop/main.py").read_text() == "app = 1\n"
    assert names(tmp_path) == [directory.relative_to(tmp_path).parts[0]]


def test_files_of_lists_what_was_generated_and_nothing_else(tmp_path: Path) -> None:
    generate(tmp_path / "shop")
    (tmp_path / "shop/data.db").write_bytes(b"\xff")

    assert files_of(tmp_path / "shop") == sorted(file.path for file in FILES)


def test_a_folder_of_somebody_else_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("Chapter one")

    with pytest.raises(TreeError) as refused:
        generate(tmp_path)

    what, fix = str(refused.value).splitlines()
    assert "is not empty" in what
    assert fix == "  fix: name another directory, or empty this one"
    assert listing(tmp_path) == ["novel.txt"]


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"files": 1}', '{"files": ["a"]}'])
def test_a_broken_manifest_is_no_licence_to_write(tmp_path: Path, manifest: str) -> None:
    (tmp_path / MANIFEST).write_text(manifest)

    with pytest.raises(TreeError, match="did not make it"):
        ensure_usable(tmp_path)


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("mine")

    with pytest.raises(TreeError, match="is a file"):
        generate(tmp_path / "shop")


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")

    with pytest.raises(TreeError, match="cannot be written to"):
        generate(tmp_path / "file" / "shop")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_stopped_half_way_nothing_is_left(tmp_path: Path, error: type[BaseException]) -> None:
    def stop_half_way() -> None:
        with staged(tmp_path / "shop") as staging:
            write(FILES[:2], staging)
            raise error

    with pytest.raises(error):
        stop_half_way()

    assert names(tmp_path) == []


def test_a_second_run_replaces_what_was_not_edited(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    generate(directory)
    (directory / "notes.md").write_text("mine")

    generate(
        directory,
        [
            File("pyproject.toml", "[project]\nname = 2\n"),
            File("migrations/0001_initial.py", "one\n"),
            File("README.md", "new\n"),
            File(".env", "SECRET_KEY=second\n", 0o600),
        ],
    )

    assert (directory / "pyproject.toml").read_text() == "[project]\nname = 2\n"
    assert (directory / "README.md").exists()
    assert not (directory / "src/shop/main.py").exists(), "the new plan does not have it"
    assert (directory / "notes.md").read_text() == "mine"
    assert (directory / ".env").read_text() == "SECRET_KEY=first\n", "sessions go on"


def test_a_second_run_brings_back_secrets_that_are_gone(tmp_path: Path) -> None:
    generate(tmp_path / "shop")
    (tmp_path / "shop/.env").unlink()

    generate(tmp_path / "shop")

    assert (tmp_path / "shop/.env").stat().st_mode & 0o777 == 0o600


def test_an_edited_file_stops_a_second_run(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    generate(directory)
    (directory / "src/shop/main.py").write_text("app = 2\n")

    with pytest.raises(TreeError, match=r"of yours that would be lost: src/shop/main\.py"):
        generate(directory)

    assert (directory / "src/shop/main.py").read_text() == "app = 2\n"


def test_many_edited_files_are_counted(tmp_path: Path) -> None:
    files = [File(f"{number}.py", "") for number in range(8)]
    generate(tmp_path / "shop", files)
    for file in files:
        (tmp_path / "shop" / file.path).write_text("mine")

    with pytest.raises(TreeError, match="and 3 more"):
        ensure_usable(tmp_path / "shop")


def test_a_migration_of_ones_own_stops_a_second_run(tmp_path: Path) -> None:
    generate(tmp_path / "shop")
    (tmp_path / "shop/migrations/0002_mine.py").write_text("two\n")

    with pytest.raises(TreeError, match=r"migrations/0002_mine\.py"):
        generate(tmp_path / "shop")


def test_a_file_of_ones_own_in_the_place_of_a_new_one_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    generate(directory)
    (directory / "README.md").write_text("mine")

    with pytest.raises(TreeError, match=r"README\.md"):
        generate(directory, [*FILES, File("README.md", "theirs")])

    assert (directory / "README.md").read_text() == "mine"
    assert names(tmp_path) == ["shop"]


def test_a_run_that_broke_off_while_moving_can_be_repeated(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    generate(directory)
    (directory / "README.md").write_text("theirs")  # moved, and then the power went

    generate(directory, [*FILES, File("README.md", "theirs")])

    assert "README.md" in files_of(directory)


def test_a_database_of_another_plan_stops_a_second_run(tmp_path: Path) -> None:
    generate(tmp_path / "shop")
    (tmp_path / "shop/data.db").write_text("rows")

    generate(tmp_path / "shop")
    with pytest.raises(TreeError, match=r"data\.db has the tables of another plan"):
        generate(tmp_path / "shop", [File("migrations/0001_initial.py", "other\n")])

    assert (tmp_path / "shop/data.db").read_text() == "rows"


def test_a_place_that_was_taken_meanwhile_is_not_written_over(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    with staged(directory) as staging:
        write(FILES, staging)
        directory.mkdir()
        (directory / "novel.txt").write_text("Chapter one")
        with pytest.raises(TreeError, match="not empty"):
            settle(staging, directory, made_by="0.1.0")

    assert listing(tmp_path) == ["shop/novel.txt"]


def test_a_name_that_became_a_file_meanwhile_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    with staged(directory) as staging:
        write(FILES, staging)
        directory.write_text("mine")
        with pytest.raises(TreeError, match="could not be made"):
            settle(staging, directory, made_by="0.1.0")

    assert directory.read_text() == "mine"


def test_a_tree_that_failed_is_kept_beside_the_good_one(tmp_path: Path) -> None:
    generate(tmp_path / "shop")
    with staged(tmp_path / "shop") as staging:
        write(FILES[:1], staging)
        kept = keep(staging, tmp_path / "shop")

    assert kept.parent == tmp_path
    assert listing(kept) == ["pyproject.toml"]
    assert (tmp_path / "shop/src/shop/main.py").exists()
