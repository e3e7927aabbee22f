"""The files around the features: what they say, what they never say, that tools read them."""

import ast
import json
import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest
import yaml

from newel.broker import open_broker
from newel.settings import Settings, unsafe_settings
from newel_tools.errors import PlanError
from newel_tools.generator import shell
from newel_tools.generator.files import File
from newel_tools.generator.layout import LAYOUTS, Layout
from newel_tools.generator.shell import ROUTES, Kernel, render_shell, with_routes
from newel_tools.generator.variables import VARIABLES
from newel_tools.plan.plan import Action, Broker, Job, Plan, Resource, Role

RELEASED = Kernel(version="0.4.2", checkout=None)
PLAN = Plan(
    service="book_shop",
    title="Book shop API",
    sentence="book shop with books",
    resources=(Resource(name="books", singular="book", owner="users"),),
    roles=(
        Role(name="user", permissions=("books:read", "books:write")),
        Role(name="reader", permissions=("books:read",)),
        Role(name="admin", permissions=("*",)),
    ),
    assumed=("books have a title",),
    not_understood=("with dragons",),
)


def render(
    plan: Plan = PLAN,
    layout: Layout = "features",
    *,
    kernel: Kernel = RELEASED,
    directory: Path = Path("/srv/shop"),
) -> dict[str, File]:
    files = render_shell(plan, layout, directory=directory, kernel=kernel)
    assert len({file.path for file in files}) == len(files)
    return {file.path: file for file in files}


@pytest.fixture(params=LAYOUTS)
def files(request: pytest.FixtureRequest) -> dict[str, File]:
    return render(layout=request.param)


# ---------------------------------------------------------------- secrets


def secrets_of(files: dict[str, File]) -> list[str]:
    return re.findall(r"=([0-9a-f]{32,})$", files[".env"].text, re.MULTILINE)


def test_secrets_are_in_env_alone_and_only_its_owner_reads_it(files: dict[str, File]) -> None:
    found = secrets_of(files)

    assert len(found) == 2
    assert files[".env"].mode == 0o600
    for path, file in files.items():
        assert path == ".env" or not any(secret in file.text for secret in found)


def test_git_and_docker_ignore_secrets(files: dict[str, File]) -> None:
    assert {".env", ".env.*", "!.env.example", "*.db"} <= set(files[".gitignore"].text.split())
    kept = [line for line in files[".dockerignore"].text.split() if line.startswith("!")]
    assert files[".dockerignore"].text.splitlines()[1] == "*"
    assert "!.env" not in kept


def test_each_service_has_its_own_secrets() -> None:
    assert not set(secrets_of(render())) & set(secrets_of(render()))


def test_but_for_secrets_the_same_plan_gives_the_same_text() -> None:
    one, other = render(), render()

    assert {p for p in one if one[p] != other[p]} == {".env"}


def test_the_kernel_finds_the_secret_safe(
    files: dict[str, File], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SECRET_KEY", raising=False)
    (tmp_path / ".env").write_text(files[".env"].text)

    assert unsafe_settings(Settings(_env_file=tmp_path / ".env")) == []


def test_the_example_names_what_env_has_and_no_value(files: dict[str, File]) -> None:
    def names(text: str) -> list[str]:
        return re.findall(r"^([A-Z_]+)=", text, re.MULTILINE)

    example = files[".env.example"].text
    assert names(example) == names(files[".env"].text)
    assert re.search(r"^SECRET_KEY=$", example, re.MULTILINE)
    assert re.search(r"^POSTGRES_PASSWORD=$", example, re.MULTILINE)


# ---------------------------------------------------------------- pyproject.toml


def project(**options: Any) -> dict[str, Any]:
    return tomllib.loads(render(**options)["pyproject.toml"].text)


def test_it_depends_on_the_released_kernel() -> None:
    assert project()["project"]["dependencies"] == ["newel[redis]>=0.4.2,<0.5"]
    assert "uv" not in project()["tool"]


@pytest.mark.parametrize(
    ("version", "breaking"), [("0.4.2", "0.5"), ("1.0", "2"), ("2.7.1", "3"), ("0.9.0rc1", "0.10")]
)
def test_it_goes_along_with_the_kernel_up_to_what_may_break_it(version: str, breaking: str) -> None:
    assert Kernel(version=version, checkout=None).next_breaking == breaking


@pytest.mark.parametrize(
    ("directory", "path"),
    [("/opt/newel/demo", "../packages/newel"), ("/srv/shop", "/opt/newel/packages/newel")],
)
def test_made_from_a_checkout_it_points_there(directory: str, path: str) -> None:
    kernel = Kernel(version="0.4.2", checkout=Path("/opt/newel/packages/newel"))

    found = project(kernel=kernel, directory=Path(directory))

    assert found["tool"]["uv"]["sources"] == {"newel": {"path": path, "editable": True}}


def test_tools_find_the_application_and_the_sources(files: dict[str, File]) -> None:
    found = tomllib.loads(files["pyproject.toml"].text)

    assert found["tool"]["fastapi"]["entrypoint"] == "book_shop.main:app"
    assert found["tool"]["pyright"]["typeCheckingMode"] == "strict"
    assert found["tool"]["pytest"]["ini_options"]["filterwarnings"] == ["error"]
    assert found["tool"]["pytest"]["ini_options"]["timeout"] > 0
    assert found["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == ["src/book_shop"]
    assert "dev" in found["dependency-groups"]


def test_the_kernel_that_is_installed_is_found() -> None:
    found = Kernel.installed()

    assert re.fullmatch(r"\d+\.\d+.*", found.version)
    assert found.checkout is not None
    assert (found.checkout / "src/newel/app.py").is_file()


@pytest.mark.parametrize("origin", [None, '{"url": "file:///x", "dir_info": {}}', '{"url": "x"}'])
def test_a_kernel_that_is_no_checkout_is_a_release(
    monkeypatch: pytest.MonkeyPatch, origin: str | None
) -> None:
    class Found:
        version = "0.4.2"

        def read_text(self, _name: str) -> str | None:
            return origin

    monkeypatch.setattr(shell, "distribution", lambda _name: Found())

    assert Kernel.installed() == RELEASED


def test_without_a_kernel_nothing_is_made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(shell, "distribution", missing)

    with pytest.raises(PackageNotFoundError):
        Kernel.installed()


# ---------------------------------------------------------------- containers and CI


def stages(dockerfile: str) -> list[list[str]]:
    """Return each stage's instructions, continued lines joined, without comments."""
    lines = re.sub(r"\\\n", " ", dockerfile).splitlines()
    found: list[list[str]] = []
    for line in lines:
        if line.startswith("FROM "):
            found.append([])
        if line and not line.startswith("#"):
            found[-1].append(line)
    return found


def test_the_image_runs_the_service_and_nothing_else_as_nobody_special(
    files: dict[str, File],
) -> None:
    text = files["Dockerfile"].text
    build, final = stages(text)

    words = [line.split()[0] for line in final]
    users = [line.split()[1] for line in final if line.startswith("USER ")]
    assert users == ["10001"]
    assert words.index("USER") < words.index("CMD")
    assert words.index("USER") > max(i for i, word in enumerate(words) if word in {"RUN", "COPY"})
    assert "HEALTHCHECK" in words
    assert json.loads(final[-1].removeprefix("CMD "))[:2] == ["newel", "serve"]
    assert final[0].split()[1].endswith("-slim")
    assert "STOPSIGNAL SIGTERM" in final
    assert [line.split()[5:] for line in build if line.startswith("RUN pip")] == [
        ["--require-hashes", "--only-binary=:all:", "-r", "requirements.lock"]
    ]
    assert "RUN python -m compileall -q src" in build
    assert not [line for line in final if re.search(r"\b(pip|apt-get|apk)\b", line)]
    assert not re.search(r"newel-tools|SECRET|PASSWORD|\.env|COPY \. ", text)


def test_what_the_image_copies_is_not_ignored(files: dict[str, File]) -> None:
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", files["Dockerfile"].text, re.MULTILINE)
    kept = {line[1:] for line in files[".dockerignore"].text.split() if line.startswith("!")}

    assert {name for line in copied for name in line.split()} == kept


PROCESSES = ("web-1", "web-2", "worker")


def compose(files: dict[str, File]) -> dict[str, Any]:
    return yaml.safe_load(files["compose.yaml"].text)


def test_compose_starts_database_migration_and_web_in_this_order(files: dict[str, File]) -> None:
    services = compose(files)["services"]

    assert set(services) == {"proxy", *PROCESSES, "migrate", "database", "cache"}
    for name, service in services.items():
        for other, condition in service.get("depends_on", {}).items():
            assert other in services, f"{name} waits for {other}, which is not there"
            if condition["condition"] == "service_healthy":
                assert "test" in services[other]["healthcheck"]
    for name in PROCESSES:
        before = {"condition": "service_completed_successfully"}
        assert services[name]["depends_on"]["migrate"] == before
        assert services[name]["environment"]["ROLE"] == name.partition("-")[0]
        assert services[name]["environment"]["DATABASE_URL"]
    assert services["migrate"]["command"] == ["newel", "migrate", "up"]
    assert services["worker"]["command"] == ["newel", "worker"]


def test_compose_gives_each_container_as_little_as_it_needs(files: dict[str, File]) -> None:
    for name, service in compose(files)["services"].items():
        if "build" in service:
            assert service["tmpfs"] == ["/tmp"]
        if "build" in service or name == "proxy":
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]
        if "build" not in service:
            tag = service["image"].partition(":")[2]
            assert re.match(r"\d", tag), f"{name} is of no particular version"
        assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")
        is_checked = "test" in service.get("healthcheck", {}) or "web" in name  # the image's own
        assert is_checked or service["healthcheck"] == {"disable": True}


def test_what_is_uploaded_waits_on_a_disk() -> None:
    files = render(PLAN.model_copy(update={"files": True}))

    for name, service in compose(files)["services"].items():
        if "build" in service:
            assert service["volumes"] == ["files:/srv/files", "/tmp"], name
            assert "tmpfs" not in service
    assert "emptyDir: { sizeLimit: 4Gi }" in files["deploy/kubernetes/web.yaml"].text


BROKER_SCHEMES = {"kafka": "kafka", "nats": "nats", "rabbit": "amqp", "redis": "redis"}


@pytest.mark.parametrize("name", BROKER_SCHEMES)
def test_a_broker_is_in_every_file_that_needs_it(name: Broker) -> None:
    files = render(PLAN.model_copy(update={"broker": name}))
    services = compose(files)["services"]
    scheme = BROKER_SCHEMES[name]

    for role in PROCESSES:
        assert services[role]["environment"]["BROKER_URL"].startswith(f"{scheme}://")
        assert re.search(r"[/@]broker:\d+", services[role]["environment"]["BROKER_URL"])
        assert services[role]["depends_on"]["broker"] == {"condition": "service_healthy"}
    assert services["broker"]["healthcheck"]["test"][0] == "CMD"
    assert re.search(r":\d", services["broker"]["image"])
    assert services["broker"]["volumes"][0].partition(":")[0] in compose(files)["volumes"]
    assert f"# BROKER_URL={scheme}://" in files[".env.example"].text
    assert f"`BROKER_URL` ({scheme}://" in files["README.md"].text
    project = tomllib.loads(files["pyproject.toml"].text)["project"]
    extras = ",".join(dict.fromkeys(("redis", name)))
    assert project["dependencies"] == [f"newel[{extras}]>=0.4.2,<0.5"]
    needed = set(re.findall(r"\$\{(\w+):\?", files["compose.yaml"].text))
    assert needed <= set(re.findall(r"^(\w+)=", files[".env"].text, re.MULTILINE))
    assert needed <= set(re.findall(r"^(\w+)=", files[".env.example"].text, re.MULTILINE))


@pytest.mark.parametrize("name", BROKER_SCHEMES)
def test_the_kernel_knows_the_address_of_the_broker(name: Broker) -> None:
    services = compose(render(PLAN.model_copy(update={"broker": name})))["services"]
    url = services["web-1"]["environment"]["BROKER_URL"]

    assert open_broker(re.sub(r"\$\{[^}]*\}", "x", url)) is not None


def test_without_a_broker_there_is_none(files: dict[str, File]) -> None:
    assert "broker" not in compose(files)["services"]
    assert not re.search(r"^ +BROKER_URL", files["compose.yaml"].text, re.MULTILINE)
    assert tomllib.loads(files["pyproject.toml"].text)["project"]["dependencies"] == [
        "newel[redis]>=0.4.2,<0.5"  # which compose.yaml has
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_webhooks_are_mounted_and_installed(layout: Layout) -> None:
    files = render(PLAN.model_copy(update={"webhooks": True}), layout)
    package = "book_shop.core" if layout == "layered" else "book_shop"

    text = files["src/book_shop/application.py"].text
    assert f"from {package} import webhooks" in text.replace("books, ", "")
    assert "webhooks.module," in text
    extras = tomllib.loads(files["pyproject.toml"].text)["project"]["dependencies"]
    assert extras == ["newel[redis,outgoing]>=0.4.2,<0.5"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_chats_and_files_are_mounted_and_installed(layout: Layout) -> None:
    files = render(PLAN.model_copy(update={"chat": "live", "files": True}), layout)

    text = files["src/book_shop/application.py"].text
    assert "from newel import accounts, chat, file_routes, room_routes\n" in text
    assert "chat.module(),\n        room_routes.module(),\n        file_routes.module(),\n" in text
    extras = tomllib.loads(files["pyproject.toml"].text)["project"]["dependencies"]
    assert extras == ["newel[redis,files,objects]>=0.4.2,<0.5"]


def test_without_chats_and_files_there_is_no_word_of_them(files: dict[str, File]) -> None:
    for path, file in files.items():
        if path not in {"README.md", ".gitignore"}:  # all settings; what is ignored
            assert not re.search(r"chat|STORAGE_URL|file_routes|storage_url", file.text), path
    assert "## Chats" not in files["README.md"].text
    assert "## Files" not in files["README.md"].text


def test_every_process_sees_the_same_files() -> None:
    files = render(PLAN.model_copy(update={"files": True}))
    services = compose(files)["services"]

    seen = {name for name, one in services.items() if "files:/srv/files" in one.get("volumes", [])}
    assert seen == {"migrate", "web-1", "web-2", "worker"}
    assert {services[name]["environment"]["STORAGE_URL"] for name in seen} == {"file:///srv/files"}
    assert "files" in compose(files)["volumes"]
    owned = "install --directory --owner=service /srv/files"
    assert owned in files["Dockerfile"].text, "a new volume is as the image has the folder"
    settings = yaml.safe_load(files["deploy/kubernetes/settings.yaml"].text)["data"]
    assert settings["STORAGE_URL"].startswith("s3://book-shop-files?")


def test_the_readme_says_how_to_chat_and_where_files_lie() -> None:
    readme = render(PLAN.model_copy(update={"chat": "live", "files": True}))["README.md"].text

    assert '"room": "chat:lobby"' in readme
    assert "nothing that is said is kept" in readme
    assert "`STORAGE_URL`, which" in readme


def test_the_texts_say_who_works_on_what() -> None:
    books = PLAN.resources[0].model_copy(
        update={
            "jobs": (
                Job(name="report", cron="0 3 * * *"),
                Job(name="thank", event="created"),
                Job(name="scan"),
            )
        }
    )
    readme = render(PLAN.model_copy(update={"resources": (books,)}))["README.md"].text

    assert "ROLE=web newel serve" in readme
    assert "newel worker" in readme
    assert "| `report` | `0 3 * * *`, in UTC |" in readme
    assert "| `thank` | books: created |" in readme
    assert "| `scan` | when the service enqueues it |" in readme
    assert "NotImplementedError" not in render()["README.md"].text
    for name in ("MAIL_URL", "BROKER_URL", "ROLE"):
        assert f"# {name}=" in render()[".env.example"].text


def test_the_readme_names_the_actions_that_nobody_has_written() -> None:
    books = Resource(name="books", singular="book", actions=(Action(name="lend"),))
    files = render(PLAN.model_copy(update={"resources": (books,)}))

    assert "`POST /books/{book_id}/lend` yet" in files["README.md"].text
    assert "has written" not in render()["README.md"].text
    decision = files["docs/decisions/0001-one-sentence.md"].text
    assert "- books (), shared, read by every signed-in user" in decision


def test_compose_names_only_what_it_has(files: dict[str, File]) -> None:
    found = compose(files)
    services = found["services"]
    environment = services["web-1"]["environment"]

    database = services["database"]["environment"]
    url = environment["DATABASE_URL"]
    assert url.startswith(f"postgresql+asyncpg://{database['POSTGRES_USER']}:")
    assert url.endswith(f"@database:5432/{database['POSTGRES_DB']}")
    assert environment["REDIS_URL"].startswith("redis://cache:")
    for service in services.values():
        for volume in service.get("volumes", []):
            name = volume.partition(":")[0]
            assert name in found["volumes"] or name.removeprefix("./") in files
    known = {variable.name for variable in VARIABLES}
    assert set(environment) <= known


def test_compose_takes_secrets_from_env_and_publishes_to_this_machine_only(
    files: dict[str, File],
) -> None:
    text = files["compose.yaml"].text
    needed = set(re.findall(r"\$\{(\w+):\?", text))

    assert needed == {"SECRET_KEY", "POSTGRES_PASSWORD"}
    assert needed <= set(re.findall(r"^(\w+)=", files[".env"].text, re.MULTILINE))
    ports = [port for s in compose(files)["services"].values() for port in s.get("ports", [])]
    assert ports == ["127.0.0.1:8000:8000"]


def test_ci_checks_types_and_tests_on_both_databases(files: dict[str, File]) -> None:
    found = yaml.safe_load(files[".github/workflows/ci.yml"].text)
    runs = [step.get("run", "") for job in found["jobs"].values() for step in job["steps"]]

    assert {"ruff format --check .", "ruff check .", "ty check", "pyright"} <= set(runs)
    test = found["jobs"]["test"]
    assert [case["database"] for case in test["strategy"]["matrix"]["include"]] == [
        "sqlite",
        "postgresql",
    ]
    assert test["services"]["postgres"]["image"].startswith("postgres:")
    assert all("timeout-minutes" in job for job in found["jobs"].values())
    assert found["permissions"] == {"contents": "read"}


def test_nothing_names_a_package_registry(files: dict[str, File]) -> None:
    hosts = re.compile(r"pypi|pythonhosted|npmjs|ghcr\.io|docker\.io|index-url", re.IGNORECASE)

    assert [path for path, file in files.items() if hosts.search(file.text)] == []


# ---------------------------------------------------------------- texts


def test_every_setting_of_the_kernel_is_in_the_readme(files: dict[str, File]) -> None:
    listed = re.findall(r"^\| `([A-Z_]+)` \|", files["README.md"].text, re.MULTILINE)

    assert set(listed) == {name.upper() for name in Settings.model_fields}
    assert len(listed) == len(set(listed))


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_the_defaults_of_the_table_are_the_kernels(variable: Any) -> None:
    default = Settings.model_fields[variable.name.lower()].get_default()
    said = re.fullmatch(r"`(.*)`", variable.default)

    if said is not None:
        assert said[1] == (str(default).lower() if isinstance(default, bool) else str(default))
    else:
        assert not default or variable.name in {"SECRET_KEY", "SERVICE_NAME"}


def test_the_readme_gets_the_routes_that_the_application_has() -> None:
    routes = [
        {"method": "GET", "path": "/api/v1/books", "access": "books:read", "name": "list_books"},
        {"method": "GET", "path": "/health", "access": "public", "name": "health"},
    ]

    text = with_routes(render()["README.md"].text, routes)

    assert "| `GET /books` | books:read | list_books |" in text
    assert "`GET /health`" not in text
    assert ROUTES not in text


def test_assumptions_are_written_down(files: dict[str, File]) -> None:
    text = files["docs/decisions/0001-one-sentence.md"].text

    assert "> book shop with books" in text
    assert "- books have a title" in text
    assert "- with dragons" in text
    assert "- books (), of the user who makes them" in text


def test_a_plan_by_hand_has_no_sentence_to_quote() -> None:
    plan = PLAN.model_copy(
        update={"sentence": "", "assumed": (), "not_understood": (), "resources": ()}
    )
    text = render(plan)["docs/decisions/0001-one-sentence.md"].text

    assert "written by hand" in text
    assert "Nothing was assumed." in text
    assert "Not understood" not in text


@pytest.mark.parametrize("layout", LAYOUTS)
def test_rules_and_readme_name_the_files_of_the_layout(layout: Layout) -> None:
    found = render(layout=layout)
    folder = "api/v1/endpoints" if layout == "layered" else "invoices"

    for path in ("README.md", "AGENTS.md"):
        assert f"src/book_shop/{folder}/" in found[path].text
    config = "core/config" if layout == "layered" else "settings"
    assert f"src/book_shop/{config}.py" in found


def test_what_is_python_is_formatted_and_parses(files: dict[str, File]) -> None:
    for path, file in files.items():
        if path.endswith(".py"):
            ast.parse(file.text)
            assert file.text.endswith("\n")


@pytest.mark.parametrize("missing", ["user", "reader", "admin"])
def test_a_plan_without_a_role_that_is_needed_is_refused(missing: str) -> None:
    roles = tuple(role for role in PLAN.roles if role.name != missing)

    with pytest.raises(PlanError, match=f"no role '{missing}'") as refused:
        render(PLAN.model_copy(update={"roles": roles}))

    assert f"'{missing}: [" in refused.value.fix


HOSTILE = [
    'He said "yes"',
    "back\\slash",
    '"""\nimport os',
    "line\nbreak",
    "tab\tand \x00 NUL and \x7f",
    "`code` <script> | table",
    "{{ secret_key }} {% raw %}",
    "${SECRET_KEY}",
    "é 漢字 🙂",
    "x" * 500,
    "# comment: yes",
]


@pytest.mark.parametrize("title", HOSTILE)
def test_any_title_is_only_ever_text(title: str) -> None:
    found = render(PLAN.model_copy(update={"title": title, "sentence": title}))

    described = tomllib.loads(found["pyproject.toml"].text)["project"]["description"]
    assert described == re.sub(r"[\x00-\x1f\x7f]+", " ", title)
    for path, file in found.items():
        if path.endswith(".py"):
            ast.parse(file.text)
            assert max(map(len, file.text.splitlines()), default=0) <= 100
    assert found["README.md"].text.startswith("# ")
    assert "<script>" not in found["README.md"].text
    yaml.safe_load(found["compose.yaml"].text)
    for secret in secrets_of(found):
        assert secret not in found["README.md"].text
