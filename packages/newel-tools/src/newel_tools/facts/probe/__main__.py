"""Load this folder under a name that no project has, and run it."""

import importlib.util
import json
import os
import sys


def _load() -> None:
    """Import the folder as `newel_probe`: the project may well have a `routes` of its own."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - no pathlib before the guard stands
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != folder]  # noqa: PTH100 - as above
    spec = importlib.util.spec_from_file_location(
        "newel_probe",
        os.path.join(folder, "__init__.py"),  # noqa: PTH118 - as above
        submodule_search_locations=[folder],
    )
    if spec is None or spec.loader is None:
        raise SystemExit("the probe's folder cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules["newel_probe"] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _load()
    importlib.import_module("newel_probe.document").write(json.loads(sys.argv[1]))
