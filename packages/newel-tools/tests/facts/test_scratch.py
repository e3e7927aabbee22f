"""Scratch folders, of processes that end well and of those that are killed."""

import subprocess
import sys
from pathlib import Path

import pytest

from newel_tools.facts.scratch import scratch_folder

HOLDER = """
import sys
from pathlib import Path
from newel_tools.facts.scratch import scratch_folder
with scratch_folder(parent=Path(sys.argv[1])) as folder:
    (folder / "file").write_text("x")
    print(folder, flush=True)
    sys.stdin.read()
"""


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir())


def test_it_is_there_for_its_block(tmp_path: Path) -> None:
    with scratch_folder(parent=tmp_path) as folder:
        (folder / "file").write_text("x")
        assert folders(tmp_path) == [folder.name]

    assert folders(tmp_path) == []


def test_it_goes_with_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), scratch_folder(parent=tmp_path):
        1 / 0  # noqa: B018 - what fails inside

    assert folders(tmp_path) == []


def test_what_a_killed_process_left_goes_at_the_next_run(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().strip())
        with scratch_folder(parent=tmp_path):
            assert left.is_dir(), "it lives, so its folder is its own"
        holder.kill()
        holder.wait()
        assert left.is_dir(), "nobody was there to remove it"

        with scratch_folder(parent=tmp_path):
            assert not left.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    beside = tmp_path / "newel-notes"
    beside.mkdir()
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "newel-scratch-link").symlink_to(target)
    (tmp_path / "newel-scratch-file").write_text("x")
    before = folders(tmp_path)

    with scratch_folder(parent=tmp_path):
        pass

    assert folders(tmp_path) == before
