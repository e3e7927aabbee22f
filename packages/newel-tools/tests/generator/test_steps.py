"""Running other programs: how they end, and that they do end."""

import sys
import time
from pathlib import Path

import pytest

from newel_tools.generator.steps import Outcome, Running, Step, clean_environment


def run(code: str, directory: Path, *, timeout_seconds: float = 20.0) -> Outcome:
    step = Step(name="look", command=("-c", code), timeout_seconds=timeout_seconds)
    with Running(step, directory=directory) as running:
        return running.finish()


def wait_until_gone(pid: int) -> None:
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < end, "still there after 10 s"
        time.sleep(0.01)


def test_a_program_that_ends_well(tmp_path: Path) -> None:
    outcome = run("import os, sys; print(os.getcwd()); print('b', file=sys.stderr)", tmp_path)

    assert outcome.ok
    assert outcome.name == "look"
    assert sorted(outcome.output.split()) == sorted([str(tmp_path), "b"])
    assert 0 < outcome.seconds < 20


def test_a_program_that_fails_says_how(tmp_path: Path) -> None:
    outcome = run("print('one\\n\\ntwo  \\n\\n'); raise SystemExit(3)", tmp_path)

    assert not outcome.ok
    assert outcome.reason == "exit code 3"
    assert outcome.last_lines(1) == ["two"]
    assert outcome.last_lines(5) == ["one", "two"]


def test_much_output_does_not_block_a_program(tmp_path: Path) -> None:
    assert len(run("print('x' * 1_000_000)", tmp_path).output) == 1_000_001


def test_output_that_is_no_text_is_shown_all_the_same(tmp_path: Path) -> None:
    assert run(r"import os; os.write(1, b'a\xff')", tmp_path).output == "a\N{REPLACEMENT CHARACTER}"


FOREVER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(600)
"""


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(tmp_path: Path) -> None:
    outcome = run(FOREVER, tmp_path, timeout_seconds=1.5)

    assert outcome.reason == "not done within 1.5 s"
    for pid in outcome.output.split():
        wait_until_gone(int(pid))


def test_a_program_that_does_not_want_to_end_is_killed(tmp_path: Path) -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True)"
    )
    outcome = run(f"{code}; time.sleep(600)", tmp_path, timeout_seconds=1.0)

    assert outcome.reason == "not done within 1 s"
    assert outcome.output == "1\n"
    assert outcome.seconds < 10


def test_an_error_meanwhile_ends_the_program(tmp_path: Path) -> None:
    (tmp_path / "pid").touch()
    code = "import os, time; open('pid', 'w').write(str(os.getpid())); time.sleep(600)"
    step = Step(name="look", command=("-c", code), timeout_seconds=60)

    def interrupt() -> None:
        with Running(step, directory=tmp_path):
            end = time.monotonic() + 10
            while not (tmp_path / "pid").read_text():
                assert time.monotonic() < end
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()

    wait_until_gone(int((tmp_path / "pid").read_text()))


def test_ctrl_c_at_the_terminal_does_not_reach_the_program_by_itself(tmp_path: Path) -> None:
    assert run("import os; print(os.getsid(0) == os.getpid())", tmp_path).output == "True\n"


def test_settings_of_another_project_do_not_reach_the_service(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (
        "DATABASE_URL",
        "secret_key",
        "API_PREFIX",
        "PYTEST_ADDOPTS",
        "COVERAGE_PROCESS_START",
    ):
        monkeypatch.setenv(name, "elsewhere")
    monkeypatch.setenv("KEPT", "1")

    environment = clean_environment(tmp_path)

    assert "elsewhere" not in environment.values()
    assert environment["KEPT"] == "1"
    assert environment["PYTHONPATH"] == str(tmp_path / "src")


def test_a_step_adds_variables_of_its_own(tmp_path: Path) -> None:
    step = Step(
        name="look",
        command=("-c", "import os; print(os.environ['DATABASE_URL'])"),
        timeout_seconds=20,
        environment={"DATABASE_URL": "here"},
    )
    with Running(step, directory=tmp_path) as running:
        assert running.finish().output == "here\n"


def test_the_program_is_our_own_interpreter(tmp_path: Path) -> None:
    assert run("import sys; print(sys.executable)", tmp_path).output.strip() == sys.executable
