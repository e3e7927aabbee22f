"""`newel doctor`: each thing that can be wrong, its fix, and the exit code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest
from sample_runs import Service
from sample_telemetry import collecting
from sample_valkey import Valkey


def examine(service: Service, **environment: str) -> tuple[int, dict[str, dict[str, Any]]]:
    done = service.run("doctor", "--json", **environment)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, {finding["name"]: finding for finding in json.loads(done.stdout)}


def test_a_healthy_service(service: Service):
    code, found = examine(service)
    assert code == 0
    assert list(found) == [
        *("python", ".env", "application", "settings", "mail", "migrations", "database"),
        "schema",
    ]
    for finding in found.values():
        assert finding["status"] == "ok", finding
        assert finding["detail"]
        assert finding["fix"] == ""


def test_it_reads_well(service: Service):
    (service.root / ".env").chmod(0o644)
    done = service.run("doctor")
    assert done.returncode == 0, "a warning is no failure"
    lines = done.stdout.splitlines()
    assert lines[1] == "warn  .env         other users of this machine may read the secrets in .env"
    assert lines[2].strip() == "fix: chmod 600 .env"
    assert lines[3] == "ok    application  sample_service.main:app"


def remove_database(service: Service) -> None:
    (service.root / "data.db").unlink()


def remove_migrations(service: Service) -> None:
    shutil.rmtree(service.root / "migrations")


def remove_entrypoint(service: Service) -> None:
    (service.root / "pyproject.toml").write_text("[project]\n")


def fork_migrations(service: Service) -> None:
    for name in ("0002", "0003"):
        path = service.root / "migrations" / f"{name}_x.py"
        path.write_text(f"revision = '{name}'\ndown_revision = '0001'\n")


def remove_pyproject(service: Service) -> None:
    (service.root / "pyproject.toml").unlink()


@pytest.mark.parametrize(
    ("damage", "name", "fix"),
    [
        (remove_pyproject, "application", "in the folder of the service"),
        (remove_entrypoint, "application", "entrypoint ="),
        (remove_migrations, "migrations", "MIGRATIONS"),
        (fork_migrations, "migrations", "down_revision"),
        (remove_database, "schema", "newel migrate up"),
    ],
)
def test_damage_is_found_with_its_fix(
    service: Service, damage: Callable[[Service], None], name: str, fix: str
):
    damage(service)
    code, found = examine(service)
    assert code == 1
    assert found[name]["status"] == "fail"
    assert fix in found[name]["fix"]


@pytest.mark.parametrize(
    ("environment", "name", "detail"),
    [
        ({"SECRET_KEY": "short"}, "application", "shorter than 32"),
        ({"SECRET_KEY": "change-me-please-change-me-please!"}, "application", "placeholder"),
        (
            {"DATABASE_URL": "postgresql+asyncpg://a:pw@127.0.0.1:1/x"},
            "database",
            "does not answer",
        ),
        ({"DATABASE_URL": "mysql://x"}, "application", "does not support"),
        ({"CORS_ORIGINS": "*", "CORS_CREDENTIALS": "1"}, "application", "CORS_ORIGINS"),
    ],
)
def test_wrong_settings_are_found(
    service: Service, environment: dict[str, str], name: str, detail: str
):
    code, found = examine(service, **environment)
    assert code == 1
    assert found[name]["status"] == "fail"
    assert detail in found[name]["detail"]
    assert found[name]["fix"]
    assert "pw" not in json.dumps(found)


def test_sqlite_in_production_is_a_warning(service: Service):
    code, found = examine(service, ENVIRONMENT="production")
    assert code == 0
    assert found["settings"]["status"] == "warn"
    assert "DATABASE_URL" in found["settings"]["fix"]


def test_mail_that_nobody_gets_is_a_warning_in_production(service: Service):
    assert examine(service)[1]["mail"]["status"] == "ok"
    code, found = examine(service, ENVIRONMENT="production")
    assert (code, found["mail"]["status"]) == (0, "warn")
    assert "MAIL_URL" in found["mail"]["fix"]
    mail = {"ENVIRONMENT": "production", "MAIL_URL": "smtp://u:sw0rd@host"}
    _, found = examine(service, **mail)
    assert found["mail"]["detail"] == "the links in mails lead to http://localhost:8000"
    assert "SITE_URL" in found["mail"]["fix"]
    _, found = examine(service, **mail, SITE_URL="https://app.example.com")
    assert found["mail"]["detail"] == "by smtp"
    assert "sw0rd" not in json.dumps(found)


def test_a_proxy_that_nobody_trusts_is_a_warning_in_production(service: Service):
    assert "proxies" not in examine(service)[1]
    code, found = examine(service, ENVIRONMENT="production")
    assert (code, found["proxies"]["status"]) == (0, "warn")
    assert "TRUSTED_PROXIES" in found["proxies"]["fix"]
    _, found = examine(service, ENVIRONMENT="production", TRUSTED_PROXIES="10.0.0.0/8")
    assert found["proxies"]["detail"] == "trusted: 10.0.0.0/8"


def test_processes_that_share_nothing_are_a_warning_in_production(service: Service, valkey: Valkey):
    assert "redis" not in examine(service)[1]
    code, found = examine(service, ENVIRONMENT="production")
    assert (code, found["redis"]["status"]) == (0, "warn")
    assert "REDIS_URL" in found["redis"]["fix"]
    assert examine(service, REDIS_URL=valkey.url)[1]["redis"]["detail"] == "answers"


def test_a_redis_that_does_not_answer_is_a_warning(service: Service):
    code, found = examine(service, REDIS_URL="redis://:sw0rd@127.0.0.1:1/0")
    assert (code, found["redis"]["status"]) == (0, "warn")
    assert "sw0rd" not in json.dumps(found)


def test_a_collector_that_does_not_answer_is_a_warning(service: Service):
    assert "traces" not in examine(service)[1]
    code, found = examine(service, TRACES_URL="http://me:sw0rd@127.0.0.1:1")
    assert (code, found["traces"]["status"]) == (0, "warn")
    assert "TRACES_URL" in found["traces"]["fix"]
    assert "sw0rd" not in json.dumps(found)
    with collecting() as (_, url):
        assert examine(service, TRACES_URL=url)[1]["traces"]["detail"] == "the collector answers"


WITH_FILES = """
from fastapi import APIRouter, Depends
from newel.app import create_app
from newel.auth import public
from newel.modules import Module
from newel.settings import Settings
from newel.storage import get_storage

router = APIRouter(prefix="/files", dependencies=[public(), Depends(get_storage)])

@router.get("")
async def files() -> None: ...

app = create_app(Settings(), Module("files", routers=[router]))
"""


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("file:./files", "ok"),
        ("file:./data.db", "fail"),  # no folder
        ("s3://files?endpoint=http://127.0.0.1:1&region=us-east-1", "warn"),
    ],
)
def test_a_storage_that_takes_no_files_is_seen(service: Service, url: str, status: str):
    (service.root / "src/sample_service/main.py").write_text(WITH_FILES)
    keys = {"AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "sw0rd"}
    code, found = examine(service, STORAGE_URL=url, **keys)
    assert (found["storage"]["status"], code) == (status, int(status == "fail"))
    assert ("STORAGE_URL" in found["storage"]["fix"]) == (status != "ok")
    assert "sw0rd" not in json.dumps(found)


def test_no_env_file_is_fine(service: Service):
    secret = (service.root / ".env").read_text().strip().removeprefix("SECRET_KEY=")
    (service.root / ".env").unlink()
    code, found = examine(service, SECRET_KEY=secret)
    assert code == 0
    assert found[".env"]["status"] == "ok"


def test_an_empty_migrations_folder_is_a_warning(service: Service):
    (service.root / "migrations" / "0001_initial.py").unlink()
    remove_database(service)
    code, found = examine(service)
    assert code == 0
    assert found["migrations"]["status"] == "warn"
    assert "newel migrate new" in found["migrations"]["fix"]


@pytest.mark.parametrize(
    ("url", "status", "detail"),
    [("memory:", "ok", "answers (memory)"), ("nats://127.0.0.1:1", "warn", "does not answer")],
)
def test_a_broker_that_is_away_is_a_warning(service: Service, url: str, status: str, detail: str):
    code, found = examine(service, BROKER_URL=url)
    assert code == 0, "events wait in the outbox"
    assert found["broker"]["status"] == status
    assert detail in found["broker"]["detail"]
    assert ("BROKER_URL" in found["broker"]["fix"]) == (status == "warn")
    assert found["schema"]["status"] == "ok", "what comes after it is looked at"
