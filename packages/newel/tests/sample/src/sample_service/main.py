"""The sample service's composition root."""

from fastapi import FastAPI

from newel.app import create_app
from newel.settings import Settings
from sample_service import notes


def build(settings: Settings) -> FastAPI:
    return create_app(settings, notes.module, title="sample")


app = build(Settings())
