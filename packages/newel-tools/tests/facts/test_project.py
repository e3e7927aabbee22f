"""Finding projects of many shapes without importing anything."""

import base64
import json
import sys
from pathlib import Path

import pytest

from newel_tools.facts import project as projects
from newel_tools.facts.project import ProjectError, find_project

APP = "from fastapi import FastAPI\napp = FastAPI()\n"
FACTORY = "from fastapi import FastAPI\ndef create_app() -> FastAPI:\n    return FastAPI()\n"

SHAPES = {
    "one file": ({"main.py": APP}, "main:app", "."),
    "a package": ({"shop/__init__.py": "", "shop/main.py": APP}, "shop.main:app", "."),
    "a package without __init__.py": (
        {
            "app/main.py": f"from .core.config import NAME\n{APP}",
            "app/core/config.py": "NAME = 1\n",
        },
        "app.main:app",
        ".",
    ),
    "src": ({"src/shop/__init__.py": "", "src/shop/main.py": APP}, "shop.main:app", "src"),
    "no __init__": (
        {"app/main.py": f"from app.routes import x\n{APP}", "app/routes.py": "x = 1\n"},
        "app.main:app",
        ".",
    ),
    "from inside the folder": (
        {"app/main.py": f"from routes import x\n{APP}", "app/routes.py": "x = 1\n"},
        "main:app",
        "app",
    ),
    "a backend folder": (
        {
            "backend/app/__init__.py": "",
            "backend/app/main.py": f"import app.a\n{APP}",
            "backend/app/a.py": "",
        },
        "app.main:app",
        "backend",
    ),
    "given its routes elsewhere": (
        {
            "shop/__init__.py": "",
            "shop/app.py": APP,
            "shop/routes.py": "router = None\n",
            "shop/main.py": "from shop.app import app\nfrom shop.routes import router\n"
            "app.include_router(router)\n",
        },
        "shop.main:app",
        ".",
    ),
    "given its routes elsewhere, under another name": (
        {
            "shop/__init__.py": "",
            "shop/base.py": APP,
            "shop/serving.py": "from .base import (\n    app as api,\n)\napi.mount('/', None)\n",
        },
        "shop.serving:api",
        ".",
    ),
    "given its routes by what it imports": (
        {
            "shop/__init__.py": "",
            "shop/main.py": f"{APP}from shop import routes\n",
            "shop/routes.py": "from shop.main import app\nfrom shop import a\n"
            "app.include_router(a.router)\n",
            "shop/a.py": "router = None\n",
        },
        "shop.main:app",
        ".",
    ),
    "only started elsewhere": (
        {
            "shop/__init__.py": "",
            "shop/main.py": APP,
            "run.py": "import uvicorn\nfrom shop.main import app\nuvicorn.run(app)\n",
        },
        "shop.main:app",
        ".",
    ),
    "a factory": ({"shop/__init__.py": "", "shop/app.py": FACTORY}, "shop.app:create_app", "."),
    "a factory that is called elsewhere": (
        {
            "shop/__init__.py": "",
            "shop/setup.py": FACTORY.replace("create_app", "build_it"),
            "shop/asgi.py": "from shop.setup import build_it\nserved = build_it()\n",
        },
        "shop.asgi:served",
        ".",
    ),
    "a factory without annotation": (
        {"main.py": "import fastapi\ndef make():\n    it = fastapi.FastAPI()\n    return it\n"},
        "main:make",
        ".",
    ),
    "a class of its own": (
        {"main.py": "from fastapi import FastAPI\nclass Shop(FastAPI): ...\napp = Shop()\n"},
        "main:app",
        ".",
    ),
    "a factory for a class of another file": (
        {
            "shop/__init__.py": "",
            "shop/base.py": "from fastapi import FastAPI\nclass App(FastAPI): ...\n",
            "shop/own.py": "from shop.base import App\nclass Shop(App): ...\n",
            "shop/serve.py": "from shop import own\ndef build():\n    return own.Shop()\n",
            "shop/rows.py": "class Shop: ...\nshop = Shop\n",
        },
        "shop.serve:build",
        ".",
    ),
    "a factory for another's factory": (
        {
            "shop/__init__.py": "",
            "shop/setup.py": FACTORY.replace("create_app(", "build_it(name"),
            "shop/asgi.py": "from shop.setup import build_it\ndef served():\n"
            "    app = build_it('shop')\n    return app\n",
        },
        "shop.asgi:served",
        ".",
    ),
    "a class of another file, called": (
        {
            "base.py": "from fastapi import FastAPI\nclass App(FastAPI): ...\n",
            "main.py": "from base import App as Ours\nmade: Ours = Ours()\n",
            "rows.py": "class App: ...\nrow = App()\n",
        },
        "main:made",
        ".",
    ),
    "another name": ({"main.py": "from fastapi import FastAPI as F\napi = F()\n"}, "main:api", "."),
    "below an if": (
        {"main.py": "from fastapi import FastAPI\nif True:\n    app = FastAPI()\n"},
        "main:app",
        ".",
    ),
    "declared": (
        {
            "main.py": APP,
            "other.py": APP,
            "pyproject.toml": '[tool.fastapi]\nentrypoint = "other:app"\n',
        },
        "other:app",
        ".",
    ),
    "examples beside it": (
        {"zoo/main.py": APP, "examples/app.py": APP, "tests/main.py": APP, "docs_src/main.py": APP},
        "main:app",
        "zoo",
    ),
    "the one that leads to most": (
        {
            "small/main.py": APP,
            "large/main.py": f"from . import a\n{APP}",
            "large/__init__.py": "",
            "large/a.py": "",
        },
        "large.main:app",
        ".",
    ),
}


def test_another_class_of_the_same_name_makes_no_application(write):
    files, _, _ = SHAPES["a class of another file, called"]

    assert find_project(write(files)).others == ()


@pytest.mark.parametrize("shape", SHAPES)
def test_a_project_of_this_shape_is_found(write, shape: str):
    files, name, folder = SHAPES[shape]
    root = write(files)

    project = find_project(root)

    assert project.application.name == name
    assert project.application.import_root == (root / folder).resolve()
    assert project.application.is_factory is ("factory" in shape and "called" not in shape)
    assert project.import_paths[0] == project.application.import_root


def test_other_candidates_are_named(write):
    project = find_project(write({"one/main.py": APP, "two/main.py": APP}))

    assert project.application.file.parent.name == "one"
    assert [app.file.parent.name for app in project.others] == ["two"]


def test_a_file_names_its_application(write):
    root = write({"one/main.py": APP, "two/main.py": APP, "pyproject.toml": ""})

    project = find_project(root / "two/main.py")

    assert project.application.file == root / "two/main.py"
    assert project.root == root


@pytest.mark.parametrize(
    ("name", "is_factory"),
    [
        ("shop.main:app", False),
        ("shop.main:make", True),
        ("shop.main:make()", True),
        ("shop.main", False),
    ],
)
def test_an_application_is_taken_by_its_name(write, name: str, is_factory: bool):
    text = f"{APP}def make():\n    return FastAPI()\n"
    root = write({"src/shop/__init__.py": "", "src/shop/main.py": text})

    found = find_project(root, application=name).application

    assert found.import_root == root / "src"
    assert found.is_factory is is_factory


def test_environments_and_caches_are_no_part_of_a_project(write):
    root = write(
        {
            "main.py": APP,
            ".venv/pyvenv.cfg": "",
            ".venv/lib/main.py": APP,
            "odd/pyvenv.cfg": "",
            "odd/x.py": APP,
            "node_modules/a/main.py": APP,
            "__pycache__/main.py": APP,
            "build/lib/main.py": APP,
            "build/library/main.py": APP,
            "build/lib.linux-x86_64-cpython-311/main.py": APP,
        }
    )

    own = [str(path.relative_to(root)) for path in find_project(root).files]
    assert own == ["main.py", "build/library/main.py"]


def venv(folder: Path) -> Path:
    program = folder / "bin/python"
    program.parent.mkdir(parents=True)
    (folder / "pyvenv.cfg").touch()
    program.symlink_to(sys.executable)
    return program


def test_the_projects_own_interpreter_is_taken(write, monkeypatch):
    monkeypatch.delenv("VIRTUAL_ENV", raising=False)
    root = write({"backend/main.py": APP, ".git/HEAD": ""})
    assert find_project(root / "backend").python == Path(sys.executable)

    outer = venv(root / ".venv")
    assert find_project(root / "backend").python == outer

    inner = venv(root / "backend/venv")
    assert find_project(root / "backend").python == inner


def test_an_active_environment_is_the_next_choice(write, tmp_path, monkeypatch):
    program = venv(tmp_path / "active")
    monkeypatch.setenv("VIRTUAL_ENV", str(tmp_path / "active"))

    assert find_project(write({"main.py": APP})).python == program


def test_examples_of_variables_are_read(write, monkeypatch):
    monkeypatch.setattr(projects, "installed_packages", lambda _: frozenset())
    root = write(
        {
            ".git/HEAD": "",
            ".env.example": 'A=1 # one\nB="two # 2"\nexport C=${A}/${NONE:-x}\nD=<yours>\n#E=5\n'
            'J=\'{\n "a": 1\n}\'\nF="open\n',
            "backend/main.py": "import os\nos.environ['DATABASE_URL']\n"
            f"os.getenv('SECRET_KEY')\n{APP}",
            "backend/.env.sample": "A=near\n",
        }
    )

    found = find_project(root / "backend").environment

    assert (found["A"], found["B"], found["C"]) == ("near", "two # 2", "near/x")
    assert found["DATABASE_URL"] == "sqlite:///./app.db"
    assert len(found["SECRET_KEY"]) >= 32
    assert found["D"]
    assert "E" not in found
    assert (json.loads(found["J"]), found["F"]) == ({"a": 1}, "open")


@pytest.mark.parametrize(
    ("code", "name", "value"),
    [
        ("os.environ['PORT']", "PORT", "5432"),
        ("os.getenv('UPLOAD_DIR')", "UPLOAD_DIR", "data"),
        ("os.getenv('DATA_DIR', '/var/lib/shop')", "DATA_DIR", "data"),
        ("os.environ['CORS_ORIGINS']", "CORS_ORIGINS", '["http://localhost:3000"]'),
        ("os.environ['LOG_LEVEL']", "LOG_LEVEL", "INFO"),
        ("os.environ['NATS_URL']", "NATS_URL", "nats://127.0.0.1:4222"),
        ("os.environ['SMTP_CREDENTIALS']", "SMTP_CREDENTIALS", "user:password"),
        ("os.getenv('SENTRY_DSN')", "SENTRY_DSN", None),
        ("os.environ['PAGE_MAX']", "PAGE_MAX", "30"),
        ("os.environ['USE_CACHE']", "USE_CACHE", "false"),
        ("os.getenv('MODE')", "MODE", None),
        ("os.getenv('PORT', '80')", "PORT", None),
    ],
)
def test_what_the_code_asks_for_gets_a_value(write, code: str, name: str, value: str | None):
    project = find_project(write({"main.py": f"import os\n{code}\n{APP}"}))

    assert project.environment.get(name) == value


def test_what_starts_it_for_the_prover_starts_it_for_all(write):
    said = '[tool.newel.prove]\nenv = { MODE = "quick", API_KEY = "of-a-shop" }\n'
    files = {".git/HEAD": "", "pyproject.toml": said, ".env.example": "MODE=slow\n"}

    found = find_project(write({**files, "shop/main.py": APP})).environment

    assert (found["MODE"], found["API_KEY"]) == ("quick", "of-a-shop")


def test_what_tests_ask_for_is_theirs(write):
    asks = 'import os\n\nURL = os.environ["QUEUE_URL"]\n'

    assert "QUEUE_URL" in find_project(write({"main.py": APP + asks})).environment
    found = find_project(write({"main.py": APP, "tests/conftest.py": asks}))
    assert "QUEUE_URL" not in found.environment


def test_what_a_tool_keeps_in_a_hidden_folder_is_no_part_of_a_project(write):
    project = find_project(write({"shop/main.py": APP, ".cache/copy/main.py": APP}))

    assert [project.relative(path) for path in project.files] == ["shop/main.py"]
    assert project.others == ()


@pytest.mark.parametrize(
    "engine",
    ["from sqlalchemy.ext.asyncio import create_async_engine", "AsyncEngine(create_engine(url))"],
)
def test_asynchronous_engines_get_an_asynchronous_database(write, engine: str):
    code = f"import os\n# {engine}\nos.environ['DATABASE_URL']\n"

    url = find_project(write({"main.py": code + APP})).environment["DATABASE_URL"]

    assert url.partition("://")[0] in (
        "postgresql+asyncpg",
        "sqlite+aiosqlite",
        "postgresql+psycopg",
    )


@pytest.mark.parametrize(
    ("files", "path", "said"),
    [
        ({}, ".", "holds no Python file"),
        ({"a.txt": ""}, ".", "holds no Python file"),
        ({"a.py": "x = 1"}, ".", "no FastAPI application was found"),
        ({"a.py": "app = Starlette()"}, ".", "only one of Starlette"),
        ({"a.py": APP}, "none", "does not exist"),
    ],
)
def test_where_nothing_is_found_a_line_says_so(tmp_path, files, path, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    with pytest.raises(ProjectError, match=said) as raised:
        find_project(tmp_path / path)

    assert len(str(raised.value).splitlines()) == 2


def test_an_interpreter_has_to_be_a_program(write):
    root = write({"main.py": APP})
    (root / "main.py").chmod(0o644)

    with pytest.raises(ProjectError, match="is no program"):
        find_project(root, python=root / "main.py")


def test_a_file_that_is_no_python_can_be_the_application(write):
    assert find_project(write({"main.py": f"def (:\n{APP}"})).application.name == "main:app"


@pytest.mark.parametrize("name", ["ENCRYPTION_KEY", "ADMIN_KEY", "ACCOUNT_KEY", "WAREHOUSE_KEY"])
def test_a_secret_that_is_made_up_is_a_key_for_fernet(write, name: str):
    code = f"import os\nos.environ['{name}']\n"

    key = find_project(write({"main.py": code + APP})).environment[name]

    assert len(base64.urlsafe_b64decode(key)) == 32


def test_a_module_named_as_the_standard_librarys_is_not_what_an_import_means(write):
    root = write(
        {
            "src/shop/__init__.py": "",
            "src/shop/logging.py": "",
            "src/shop/main.py": f"import logging\nfrom . import logging as own\n{APP}",
        }
    )

    application = find_project(root).application

    assert (application.name, application.import_root) == ("shop.main:app", root / "src")


def test_a_folder_of_more_than_one_project_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(projects, "_MOST_FILES", 2)
    for number in range(3):
        (tmp_path / f"app{number}.py").write_text(APP)

    with pytest.raises(ProjectError, match="3 Python files, which is more than one project"):
        find_project(tmp_path)
