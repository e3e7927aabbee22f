"""The shop's composition root: the service as it should be, or with one defect planted in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fastapi import FastAPI
from sqlalchemy import Table

from newel.app import create_app
from newel.entity import Entity
from newel.settings import Settings
from stress.shop import orders, sabotage


class ShopSettings(Settings):
    """``deliveries`` is the file that handlers write down in what they were called with.

    ``sabotage`` names defects; ``kill_file``, once it is there, where to be killed in the relay;
    ``carrier_seconds`` is what a carrier takes to answer, ``stop_seconds`` what running jobs have
    to finish when a worker stops.
    """

    deliveries: Path
    kill_file: Path
    sabotage: str = ""
    carrier_seconds: float = orders.CARRIER_SECONDS
    stop_seconds: float = 25.0


def tables() -> list[Table]:
    """Return the tables of the shop and of the kernel, without those that need users."""
    known = Entity.metadata.tables
    return [
        table
        for table in known.values()
        if all(key.target_fullname.partition(".")[0] in known for key in table.foreign_keys)
    ]


def build(settings: ShopSettings) -> FastAPI:
    """Return the shop's application."""
    app = create_app(settings, orders.module, title="shop")
    app.state.shop = orders.Shop
    app.state.deliveries = settings.deliveries
    app.state.carrier_seconds = settings.carrier_seconds
    limits = app.state.worker_limits
    app.state.worker_limits = replace(limits, stop_seconds=settings.stop_seconds)
    for name in filter(None, settings.sabotage.split(",")):
        sabotage.SABOTAGES[name].plant(app)
    sabotage.kill_in_relay(settings.kill_file)
    return app
