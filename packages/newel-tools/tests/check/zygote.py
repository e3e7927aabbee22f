"""A process that has imported what applications import, and forks for each one that is described.

Importing FastAPI, SQLAlchemy and SQLModel takes a second; with it behind us a probe takes 50 ms, so
that every rule can have an application that breaks it and one that keeps it.

Its arguments are the folder of the probe, and further modules to import.

Reads requests of the probe as JSON lines, with `answer`, a path for the document, instead of `fd`;
prints a line for each that is done.
"""

import gc
import importlib.util
import json
import os
import sys
from pathlib import Path

PRELOADED = (
    "fastapi",
    "fastapi.middleware.cors",
    "fastapi.security",
    "httpx2",
    "jwt",
    "pydantic_settings",
    "sqlalchemy",
    "sqlalchemy.ext.asyncio",
    "sqlalchemy.orm",
)


def load_probe(folder):
    spec = importlib.util.spec_from_file_location(
        "newel_probe", Path(folder) / "__init__.py", submodule_search_locations=[folder]
    )
    package = importlib.util.module_from_spec(spec)
    sys.modules["newel_probe"] = package
    spec.loader.exec_module(package)
    return importlib.import_module("newel_probe.document")


def describe(document, request):
    child = os.fork()
    if child == 0:
        request["fd"] = os.open(request["answer"], os.O_WRONLY | os.O_CREAT)
        os.environ.clear()
        os.environ.update(request["environment"])
        os.chdir(request["folder"])
        document.write(request)
    os.waitpid(child, 0)


def main():
    document = load_probe(sys.argv[1])
    for name in (*PRELOADED, *sys.argv[2:]):
        importlib.import_module(name)
    gc.freeze()  # a child neither looks through what is here nor copies it
    for line in sys.stdin:
        describe(document, json.loads(line))
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
