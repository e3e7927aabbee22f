"""An upload as FastAPI's guide has it, copied into a file and put on the disk."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from fastapi import FastAPI, UploadFile

PLACE = Path("upload")


def store(file: UploadFile) -> None:
    """Copy it; in a thread, as this is no coroutine."""
    with PLACE.open("wb") as target:
        shutil.copyfileobj(file.file, target)
        target.flush()
        os.fsync(target.fileno())


def build() -> FastAPI:
    """Return the service; it writes into the working directory."""
    app = FastAPI()
    app.post("/api/v1/files", status_code=201)(store)
    return app
