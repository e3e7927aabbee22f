"""Serve one variant with uvicorn, set as `newel serve` sets it: python -m ... module:build PORT."""

from __future__ import annotations

import sys

import uvicorn


def main(target: str, port: str) -> None:
    uvicorn.run(
        target,
        factory=True,
        host="127.0.0.1",
        port=int(port),
        backlog=2048,
        lifespan="on",
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
