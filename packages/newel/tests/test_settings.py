"""Settings come from the environment, and unsafe ones say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from newel.errors import ConfigurationError
from newel.settings import Settings, unsafe_settings

SECRET = "0123456789abcdefghijklmnopqrstuvwxyz"


def make(**values: Any) -> Settings:
    return Settings(**{"_env_file": None, "secret_key": SECRET, **values})


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the environment of whoever runs it."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ENVIRONMENT", "production", "production"),
        ("DATABASE_URL", "postgresql+asyncpg://db/x", "postgresql+asyncpg://db/x"),
        ("REDIS_URL", "redis://cache", "redis://cache"),
        (
            "CORS_ORIGINS",
            "https://a.example, https://b.example",
            ("https://a.example", "https://b.example"),
        ),
        ("CORS_ORIGINS", "", ()),
        ("TRUSTED_PROXIES", "10.0.0.0/8,192.168.1.7", ("10.0.0.0/8", "192.168.1.7/32")),
        ("ACCESS_TOKEN_EXPIRE_MINUTES", "5", 5),
        ("DOCS_ENABLED", "false", False),
    ],
)
def test_a_variable_sets_its_field(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object
) -> None:
    monkeypatch.setenv("SECRET_KEY", SECRET)
    monkeypatch.setenv(name, text)
    assert getattr(Settings(), name.lower()) == value


def test_the_file_sets_what_the_environment_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath(".env").write_text(
        f"SECRET_KEY={SECRET}\nSERVICE_NAME=file\nLOG_LEVEL=ERROR\n"
    )
    monkeypatch.setenv("LOG_LEVEL", "DEBUG")
    settings = Settings()
    assert (settings.service_name, settings.log_level) == ("file", "DEBUG")


def test_the_defaults_are_those_of_the_requirements() -> None:
    settings = make()
    assert (settings.database_pool_size, settings.database_max_overflow) == (20, 10)
    assert settings.database_pool_recycle_seconds == 3600
    assert settings.database_pool_wait_seconds == 2.0
    assert (settings.access_token_expire_minutes, settings.refresh_token_expire_days) == (15, 30)
    assert (settings.login_limit, settings.api_limit) == ("5/minute", "100/minute")
    assert settings.max_body_bytes == 1024 * 1024


def test_a_service_adds_its_own_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    class Shop(Settings):
        currency: str = "EUR"

    monkeypatch.setenv("CURRENCY", "CHF")
    assert Shop(secret_key=SECRET).currency == "CHF"


def test_the_environment_gives_what_has_no_default(monkeypatch: pytest.MonkeyPatch) -> None:
    class ShopSettings(Settings):
        payment_key: str

    monkeypatch.setenv("SECRET_KEY", SECRET)
    with pytest.raises(ConfigurationError, match="PAYMENT_KEY is not set"):
        ShopSettings.from_environment()
    monkeypatch.setenv("PAYMENT_KEY", "pk")
    assert ShopSettings.from_environment().payment_key == "pk"


def test_a_missing_secret_says_where_to_get_one() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_KEY is not set") as caught:
        Settings()
    assert "newel keys new" in caught.value.fix


def test_another_missing_field_says_where_to_put_it() -> None:
    class Shop(Settings):
        stripe_key: str

    with pytest.raises(ConfigurationError, match="STRIPE_KEY is not set") as caught:
        Shop(secret_key=SECRET)
    assert ".env" in caught.value.fix


def test_a_wrong_value_is_named_and_not_repeated() -> None:
    with pytest.raises(ConfigurationError, match="TRUSTED_PROXIES is not valid") as caught:
        make(trusted_proxies="hunter2")
    assert "hunter2" not in caught.value.fix
    with pytest.raises(ConfigurationError, match="DATABASE_POOL_SIZE is not valid"):
        make(database_pool_size="-4")


@pytest.mark.parametrize(
    ("environment", "asked", "served"),
    [
        ("development", None, True),
        ("production", None, False),
        ("production", True, True),
        ("test", False, False),
    ],
)
def test_docs_are_off_in_production_unless_asked_for(
    environment: str, asked: bool | None, served: bool
) -> None:
    assert make(environment=environment, docs_enabled=asked).serves_docs is served


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"secret_key": "hunter2"}, "shorter than 32"),
        ({"secret_key": "a" * 64}, "repeats"),
        ({"secret_key": "change-me-please-change-me-please-0"}, "placeholder"),
        ({"secret_key_previous": "short"}, "shorter than 32"),
        ({"cors_origins": "*", "cors_credentials": True}, "any site act"),
        ({"cors_origins": "*", "environment": "production"}, "every site in production"),
        ({"web_concurrency": 2}, "WEB_CONCURRENCY=2 without REDIS_URL"),
    ],
)
def test_unsafe_settings_are_found_with_their_fix(values: dict[str, Any], problem: str) -> None:
    [found] = unsafe_settings(make(**values))
    assert problem in str(found)
    assert found.fix
    assert str(values.get("secret_key", "hunter2")) not in found.detail


def test_a_blank_address_of_redis_is_none() -> None:
    assert make(redis_url="").redis_url is None
    assert make(redis_url="redis://localhost").redis_url == "redis://localhost"


def test_safe_settings_have_no_problem() -> None:
    assert unsafe_settings(make(cors_origins="https://a.example", cors_credentials=True)) == []
    assert unsafe_settings(make(cors_origins="*")) == []
    assert unsafe_settings(make(web_concurrency=2, redis_url="redis://localhost")) == []


def test_a_secret_is_not_shown() -> None:
    assert SECRET not in repr(make())
