"""Load this folder under a name that no project has, and run it."""

import importlib.util
import os
import sys

_NAME = "newel_prove_host"


def _load() -> None:
    """Import the folder as a package: the project may well have a `record` or `rows` of its own."""
    folder = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH100, PTH120 - nothing else is imported before the guard stands
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or ".") != folder]  # noqa: PTH100 - as above
    start = os.path.join(folder, "__init__.py")  # noqa: PTH118 - as above
    spec = importlib.util.spec_from_file_location(_NAME, start, submodule_search_locations=[folder])
    if spec is None or spec.loader is None:
        raise SystemExit("the host's folder cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[_NAME] = module
    spec.loader.exec_module(module)


if __name__ == "__main__":
    _load()
    importlib.import_module(_NAME + ".wire").main()
