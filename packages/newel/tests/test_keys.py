"""`newel keys`: secrets that are good, and a rotation that logs nobody out."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_runs import Service

from newel import keys
from newel.errors import ConfigurationError
from newel.keys import KEPT, new_secret, rotate
from newel.settings import Settings, unsafe_settings
from newel.tokens import KeyRing, Signer


@pytest.fixture
def env_file(tmp_path: Path) -> Path:
    return tmp_path / ".env"


def read(path: Path) -> Settings:
    return Settings(_env_file=path)


def test_a_new_secret_is_another_one_each_time_and_safe():
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        assert unsafe_settings(Settings(_env_file=None, secret_key=secret)) == []
        assert not set(secret) & set("\"'$# \\"), "it must need no quoting in a shell or in .env"


def test_tokens_of_the_old_key_are_good_after_a_rotation(env_file: Path):
    env_file.write_text(f"SECRET_KEY={new_secret()}\n")
    before = read(env_file)
    signed = Signer(KeyRing(before.secret_key), "cursor").sign(b"page 2")

    rotate(env_file)

    after = read(env_file)
    assert after.secret_key != before.secret_key
    ring = KeyRing(after.secret_key, previous=after.secret_key_previous)
    assert Signer(ring, "cursor").read(signed) == b"page 2"
    with pytest.raises(
        ValueError, match="not signed here"
    ):  # the control: without the old key it is refused
        Signer(KeyRing(after.secret_key), "cursor").read(signed)
    assert unsafe_settings(after) == []


def test_only_the_last_keys_are_kept(env_file: Path):
    env_file.write_text(f"SECRET_KEY={new_secret()}\n")
    used = [read(env_file).secret_key]
    for _ in range(4):
        kept = rotate(env_file)
        used.insert(0, read(env_file).secret_key)
    assert list(read(env_file).secret_key_previous) == used[1 : 1 + KEPT]
    assert len(kept) == KEPT


def test_everything_else_in_the_file_stays(env_file: Path):
    env_file.write_text(
        "# the service's secrets\n"
        "export DATABASE_URL='sqlite+aiosqlite:///x.db'\n"
        '  SECRET_KEY = "old-0123456789-abcdefghij-ABCDEFGHIJ"  \n'
        "\n"
        "SECRET_KEY_PREVIOUS=older-0123456789-abcdefghij-ABCDEFG\n"
        "SECRET_KEYS=unrelated\n"
    )
    rotate(env_file)
    lines = env_file.read_text().splitlines()
    assert lines[:2] == [
        "# the service's secrets",
        "export DATABASE_URL='sqlite+aiosqlite:///x.db'",
    ]
    assert lines[2].startswith("SECRET_KEY=")
    assert lines[3] == ""
    assert lines[4] == (
        "SECRET_KEY_PREVIOUS="
        "old-0123456789-abcdefghij-ABCDEFGHIJ,older-0123456789-abcdefghij-ABCDEFG"
    )
    assert lines[5:] == ["SECRET_KEYS=unrelated"]


def test_the_last_of_two_lines_counts_and_one_remains(env_file: Path):
    first, second = new_secret(), new_secret()
    env_file.write_text(f"SECRET_KEY={first}\nSECRET_KEY={second}\n")
    rotate(env_file)
    assert [key.get_secret_value() for key in read(env_file).secret_key_previous] == [second]
    assert env_file.read_text().count("SECRET_KEY=") == 1
    assert first not in env_file.read_text()


def test_the_file_belongs_to_its_owner_only(env_file: Path):
    env_file.write_text(f"SECRET_KEY={new_secret()}\n")
    env_file.chmod(0o644)
    rotate(env_file)
    assert env_file.stat().st_mode & 0o777 == 0o600


def test_a_crash_while_writing_leaves_the_old_file(env_file: Path, monkeypatch: pytest.MonkeyPatch):
    text = f"SECRET_KEY={new_secret()}\n"
    env_file.write_text(text)

    def fail(_: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(keys.os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        rotate(env_file)
    assert env_file.read_text() == text
    assert [path.name for path in env_file.parent.iterdir()] == [".env"]


@pytest.mark.parametrize("text", [None, "", "OTHER=1\n", "SECRET_KEY=\n"])
def test_nothing_to_rotate_is_explained(env_file: Path, text: str | None):
    if text is not None:
        env_file.write_text(text)
    with pytest.raises(ConfigurationError) as caught:
        rotate(env_file)
    assert caught.value.fix
    assert text is None or env_file.read_text() == text


def test_the_commands(service: Service):
    made = service.run("keys", "new")
    assert made.returncode == 0
    assert len(made.stdout.strip()) == 43

    before = (service.root / ".env").read_text()
    done = service.run("keys", "rotate")
    assert done.returncode == 0, done.stderr
    after = (service.root / ".env").read_text()
    assert after != before
    assert before.strip().removeprefix("SECRET_KEY=") in after
    assert "Restart" in done.stdout
    for line in after.splitlines():
        assert line.partition("=")[2] not in done.stdout, "a secret is not for the screen"

    refused = service.run("keys", "rotate", "--env-file", "nowhere.env")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: There is no nowhere.env\nfix: ")
