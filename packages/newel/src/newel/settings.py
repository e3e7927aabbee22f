"""What a service reads from its environment; only the composition root holds it.

A service subclasses ``Settings`` and adds its own fields. Modules never see it: ``create_app``
hands each one the plain values that it needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from newel.errors import ConfigurationError

__all__ = ["MINIMUM_SECRET_CHARACTERS", "Settings", "unsafe_settings"]

MINIMUM_SECRET_CHARACTERS = 32
"""The least an HS256 key may have (RFC 7518, section 3.2: as many bytes as the hash)."""

_SECRET_FIX = "put the output of `newel keys new` into SECRET_KEY"  # noqa: S105 - advice, no secret
_PLACEHOLDERS = ("change", "secret", "example", "default", "your", "placeholder", "test-only")


def _split(value: Any) -> Any:
    """Accept ``a,b,c`` where a list is wanted: nobody writes JSON into an environment variable."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


def _no_secret() -> SecretStr:
    """Refuse to invent one; a default at all, so that type checkers accept ``Settings()``."""
    raise ConfigurationError("SECRET_KEY is not set", fix=_SECRET_FIX)


class Settings(BaseSettings):
    """The settings of every newel service, from environment variables and ``.env``.

    Names are the fields' in upper case (``DATABASE_URL``). Lists are separated by commas. Raises
    ``ConfigurationError`` naming the variable and the fix; never repeats the value.
    """

    model_config: ClassVar[SettingsConfigDict] = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", hide_input_in_errors=True
    )

    environment: Literal["development", "test", "production"] = "development"
    service_name: str = "newel"

    secret_key: SecretStr = Field(default_factory=_no_secret)
    secret_key_previous: Annotated[tuple[SecretStr, ...], NoDecode] = ()

    database_url: str = "sqlite+aiosqlite:///./data.db"
    database_pool_size: PositiveInt = 20
    database_max_overflow: Annotated[int, Field(ge=0)] = 10
    database_pool_recycle_seconds: PositiveInt = 3600
    database_pool_wait_seconds: PositiveFloat = 2.0
    migrations: Path = Path("migrations")

    redis_url: str | None = None
    web_concurrency: PositiveInt = 1

    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    cors_credentials: bool = False
    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()

    access_token_expire_minutes: PositiveInt = 15
    refresh_token_expire_days: PositiveInt = 30
    refresh_token_idle_days: PositiveInt = 7
    session_memory_seconds: Annotated[float, Field(ge=0, le=60)] = 5.0
    token_algorithm: Literal["HS256", "EdDSA"] = "HS256"  # noqa: S105 - a name, no secret
    auth_cookies: bool = False
    password_composition: bool = False
    login_limit: str = "5/minute"
    api_limit: str = "100/minute"

    role: Literal["all", "web", "worker"] = "all"
    jobs_url: str | None = None
    job_concurrency: PositiveInt = 10
    job_lease_seconds: PositiveFloat = 30.0
    job_keep_days: PositiveFloat = 7.0
    job_keep_dead_days: PositiveFloat = 90.0

    broker_url: str | None = None
    broker_backlog: PositiveInt = 1_000_000

    storage_url: str = "file:./files"

    mail_url: str = "log:"
    mail_from: str = "no-reply@localhost"
    site_url: str = "http://localhost:8000"
    webhook_networks: Annotated[tuple[str, ...], NoDecode] = ()

    max_body_bytes: PositiveInt = 1_048_576
    request_timeout_seconds: PositiveFloat = 30.0
    header_timeout_seconds: PositiveFloat = 10.0
    max_in_flight: PositiveInt | None = None
    max_connections: PositiveInt = 10_000
    websocket_max_bytes: PositiveInt = 65_536

    api_prefix: str = "/api/v1"
    docs_enabled: bool | None = None
    docs_url: str = "/api/docs"
    redoc_url: str = "/api/redoc"
    openapi_url: str = "/api/openapi.json"

    metrics_token: SecretStr | None = None
    traces_url: str | None = None
    traces_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    sentry_dsn: SecretStr | None = None

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] = "json"

    _split_lists = field_validator(
        "secret_key_previous", "cors_origins", "trusted_proxies", "webhook_networks", mode="before"
    )(_split)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _configuration_error(error) from None

    @classmethod
    def from_environment(cls) -> Self:
        """Read them: ``Settings()``, which a type checker asks for fields without a default."""
        return cls()

    @property
    def serves_docs(self) -> bool:
        """Whether the API docs are served: as asked for, else everywhere but in production."""
        if self.docs_enabled is None:
            return self.environment != "production"
        return self.docs_enabled

    @property
    def most_in_flight(self) -> int:
        """How many requests may work at once: as asked for, else one a connection of the pool.

        At most 8 on SQLite: its statements are threads of this process, which take turns.
        """
        if self.max_in_flight is not None:
            return self.max_in_flight
        is_sqlite = self.database_url.startswith("sqlite")
        return min(self.database_pool_size, 8) if is_sqlite else self.database_pool_size

    @field_validator("redis_url", "traces_url", "sentry_dsn", mode="before")
    @classmethod
    def _blank_is_unset(cls, value: Any) -> Any:
        return None if value == "" else value  # compose.yaml cannot leave a variable out

    @field_validator("site_url")
    @classmethod
    def _without_slash(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("it is the address of your front end: https://www.example.com")
        return value.rstrip("/")

    @field_validator("trusted_proxies", "webhook_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(entry, strict=False)) for entry in value)


def _configuration_error(error: ValidationError) -> ConfigurationError:
    first = error.errors(include_input=False, include_url=False)[0]
    name = str(first["loc"][0]).upper()
    if first["type"] == "missing":
        fix = f"set {name} in the environment or in .env"
        return ConfigurationError(f"{name} is not set", fix=fix)
    return ConfigurationError(f"{name} is not valid: {first['msg']}", fix=f"correct {name}")


def unsafe_settings(settings: Settings) -> Sequence[ConfigurationError]:
    """Return what makes these settings unsafe, each with its fix; empty when they are safe.

    ``create_app`` refuses to start on any of them, in every environment, because what is unsafe in
    development is copied into production.
    """
    found: list[ConfigurationError] = []
    for secret in (settings.secret_key, *settings.secret_key_previous):
        found.extend(_unsafe_secret(secret.get_secret_value()))
    if "*" in settings.cors_origins and settings.cors_credentials:
        found.append(
            ConfigurationError(
                "CORS_ORIGINS=* together with CORS_CREDENTIALS lets any site act as its visitors",
                fix="list the origins of your front ends in CORS_ORIGINS",
            )
        )
    if settings.broker_url == "memory:" and settings.environment == "production":
        found.append(
            ConfigurationError(
                "BROKER_URL=memory: forgets the events of production",
                fix="put the address of a broker into BROKER_URL, or leave it out",
            )
        )
    if settings.web_concurrency > 1 and settings.redis_url is None:
        found.append(
            ConfigurationError(
                f"WEB_CONCURRENCY={settings.web_concurrency} without REDIS_URL: each process would "
                "count limits by itself, and not hear of the others' changes",
                fix="set REDIS_URL=redis://..., or WEB_CONCURRENCY=1",
            )
        )
    if "*" in settings.cors_origins and settings.environment == "production":
        found.append(
            ConfigurationError(
                "CORS_ORIGINS=* opens the API to every site in production",
                fix="list the origins of your front ends in CORS_ORIGINS",
            )
        )
    return found


def _unsafe_secret(secret: str) -> list[ConfigurationError]:
    if len(secret) < MINIMUM_SECRET_CHARACTERS:
        problem = f"SECRET_KEY is shorter than {MINIMUM_SECRET_CHARACTERS} characters"
    elif len(set(secret)) < 8:
        problem = "SECRET_KEY repeats a few characters"
    elif any(word in secret.lower() for word in _PLACEHOLDERS):
        problem = "SECRET_KEY is a placeholder, not a secret"
    else:
        return []
    return [ConfigurationError(problem, fix=_SECRET_FIX)]
