"""The figures of job engines side by side: ratios are taken round by round, and a miss is told."""

from benchmarks import engines
from benchmarks.engines import ENGINES, GOALS, Figure

RATES = {
    "newel": [4000.0, 1000.0, 3000.0],
    "newel, JetStream": [1000.0, 1000.0, 1000.0],
    "procrastinate": [400.0, 100.0, 100.0],
    "pgqueuer": [8000.0, 2000.0, 2000.0],
    "taskiq, Redis streams": [1000.0, 1000.0, 1500.0],
}


def figures(rates):
    return {name: [Figure(rate, 100.0) for rate in found] for name, found in rates.items()}


def test_every_engine_has_a_line_with_medians_and_its_goal():
    rows = engines.rows(figures(RATES))

    assert [row[0] for row in rows] == [engine.name for engine in ENGINES]
    assert rows[0][2:] == ["3,000", "100", "1.0"]
    assert rows[2][2:] == ["100", "100", "10.0 (goal: 3)"]


def test_a_ratio_is_the_median_of_the_rounds():
    assert engines.newel_by(figures(RATES), "pgqueuer") == 0.5


def test_a_missed_goal_is_the_exit_code(monkeypatch):
    monkeypatch.setattr("sys.argv", ["engines", "--quick"])
    monkeypatch.setattr(engines, "ensure_peers", lambda: None)
    for rates, code in ((RATES, 1), (RATES | {"pgqueuer": [1000.0] * 3}, 0)):
        monkeypatch.setattr(engines, "run", lambda *, jobs, rounds, rates=rates: figures(rates))
        assert engines.main() == code


def test_the_goals_are_of_engines_that_are_measured():
    assert set(GOALS) < {engine.name for engine in ENGINES}


def test_a_server_that_does_not_start_is_told(capsys, monkeypatch):
    def fail(*, jobs, rounds):
        with engines.started(["false"], "redis://127.0.0.1:1"):
            raise AssertionError

    monkeypatch.setattr("sys.argv", ["engines", "--quick"])
    monkeypatch.setattr(engines, "ensure_peers", lambda: None)
    monkeypatch.setattr(engines, "run", fail)

    assert engines.main() == 1
    assert "false did not start" in capsys.readouterr().err
