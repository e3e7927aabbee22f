"""The service of the generator without what wraps its requests: neither ids nor logs nor limits.

What all of that costs is the difference. Nobody runs it so.
"""

from __future__ import annotations

from fastapi import FastAPI

from benchmarks.counted import built


def build() -> FastAPI:
    app: FastAPI = built("")
    app.user_middleware.clear()
    return app
