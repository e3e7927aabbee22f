"""The environment variables that every generated service reads, for its README and its test runs.

The kernel's ``Settings`` is the truth; a test compares the two, because the tools do not import it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["VARIABLES", "Variable"]


@dataclass(frozen=True, slots=True)
class Variable:
    """One setting: its name in the environment, its default as text, what it does."""

    name: str
    default: str
    what: str


VARIABLES: Final = (
    Variable("SECRET_KEY", "none: must be set", "signs tokens; `newel keys new` prints one"),
    Variable("SECRET_KEY_PREVIOUS", "", "older ones, still accepted; see `newel keys rotate`"),
    Variable("ENVIRONMENT", "`development`", "`development`, `test` or `production`"),
    Variable("SERVICE_NAME", "the package", "issuer and audience of tokens, title of the API"),
    Variable("DATABASE_URL", "`sqlite+aiosqlite:///./data.db`", "or `postgresql+asyncpg://...`"),
    Variable("DATABASE_POOL_SIZE", "`20`", "connections kept open to PostgreSQL"),
    Variable("DATABASE_MAX_OVERFLOW", "`10`", "connections above that when it is busy"),
    Variable("DATABASE_POOL_RECYCLE_SECONDS", "`3600`", "age at which one is replaced"),
    Variable("DATABASE_POOL_WAIT_SECONDS", "`2.0`", "wait for a free one before 503"),
    Variable("MIGRATIONS", "`migrations`", "folder with the history of the schema"),
    Variable("REDIS_URL", "", "Redis or Valkey; without it everything is kept in the process"),
    Variable("WEB_CONCURRENCY", "`1`", "processes that serve; more than one need `REDIS_URL`"),
    Variable("CORS_ORIGINS", "", "origins of front ends, separated by commas"),
    Variable("CORS_CREDENTIALS", "`false`", "whether those may send cookies"),
    Variable("TRUSTED_PROXIES", "", "networks whose `X-Forwarded-For` is believed"),
    Variable("ACCESS_TOKEN_EXPIRE_MINUTES", "`15`", "life of an access token"),
    Variable("REFRESH_TOKEN_EXPIRE_DAYS", "`30`", "life of a session"),
    Variable("REFRESH_TOKEN_IDLE_DAYS", "`7`", "life of a session that is not used"),
    Variable("SESSION_MEMORY_SECONDS", "`5.0`", "how long a process may trust a session unseen"),
    Variable("TOKEN_ALGORITHM", "`HS256`", "or `EdDSA`, with public keys for other services"),
    Variable("AUTH_COOKIES", "`false`", "log-in by cookie besides the header"),
    Variable("PASSWORD_COMPOSITION", "`false`", "ask for upper, lower case and digits"),
    Variable("LOGIN_LIMIT", "`5/minute`", "log-ins an IP address"),
    Variable("API_LIMIT", "`100/minute`", "requests a caller"),
    Variable("ROLE", "`all`", "or `web` or `worker`: who answers and who works on jobs"),
    Variable("JOBS_URL", "", "NATS, which carries jobs to workers; without it the database does"),
    Variable("JOB_CONCURRENCY", "`10`", "jobs at a time in one process"),
    Variable("JOB_LEASE_SECONDS", "`30.0`", "silence after which another process takes a job"),
    Variable("JOB_KEEP_DAYS", "`7.0`", "how long finished jobs are kept"),
    Variable("JOB_KEEP_DEAD_DAYS", "`90.0`", "how long jobs are kept that failed for good"),
    Variable("BROKER_URL", "", "NATS, Redis, Kafka or RabbitMQ, which events are sent to"),
    Variable("BROKER_BACKLOG", "`1000000`", "events that may wait for it before 503"),
    Variable("STORAGE_URL", "`file:./files`", "where uploaded files lie: a folder or a bucket"),
    Variable("MAIL_URL", "`log:`", "or `file:` or `smtp://...`: where mail goes"),
    Variable("MAIL_FROM", "`no-reply@localhost`", "whom it is from"),
    Variable("SITE_URL", "`http://localhost:8000`", "the front end that links in mails lead to"),
    Variable("WEBHOOK_NETWORKS", "", "private networks that webhooks may call"),
    Variable("MAX_BODY_BYTES", "`1048576`", "longest request body"),
    Variable("REQUEST_TIMEOUT_SECONDS", "`30.0`", "longest time a request may take"),
    Variable("HEADER_TIMEOUT_SECONDS", "`10.0`", "longest time that its headers may take"),
    Variable("MAX_IN_FLIGHT", "20; SQLite 8", "requests that work at once"),
    Variable("MAX_CONNECTIONS", "`10000`", "open connections of a process"),
    Variable("WEBSOCKET_MAX_BYTES", "`65536`", "largest message of a websocket"),
    Variable("API_PREFIX", "`/api/v1`", "where the endpoints lie"),
    Variable("DOCS_ENABLED", "not in production", "whether the API docs are served"),
    Variable("DOCS_URL", "`/api/docs`", "Swagger UI"),
    Variable("REDOC_URL", "`/api/redoc`", "ReDoc"),
    Variable("OPENAPI_URL", "`/api/openapi.json`", "the OpenAPI document"),
    Variable("METRICS_TOKEN", "", "what reads `/metrics`; without it nobody does in production"),
    Variable("TRACES_URL", "", "OpenTelemetry collector: `http://host:4318`"),
    Variable("TRACES_RATIO", "`0.1`", "which part of the requests is traced"),
    Variable("SENTRY_DSN", "", "where errors are told"),
    Variable("LOG_LEVEL", "`INFO`", "`DEBUG`, `INFO`, `WARNING` or `ERROR`"),
    Variable("LOG_FORMAT", "`json`", "or `console`, for people"),
)
"""Every setting that comes with the kernel, in the order of the README."""
