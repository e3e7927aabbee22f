"""What a refusal says."""

from newel_tools.errors import PlanError


def test_a_refusal_has_two_lines():
    error = PlanError("the sky is green", fix="paint it blue", word="green")

    assert str(error) == "the sky is green\n  fix: paint it blue"
    assert error.line is None
    assert error.skeleton is None


def test_a_refusal_in_a_file_names_the_line():
    error = PlanError("the sky is green", fix="paint it blue", word="green", skeleton="s").at(3)

    assert str(error) == "line 3: the sky is green\n  fix: paint it blue"
    assert (error.word, error.skeleton) == ("green", "s")


def test_the_inner_line_is_kept():
    assert PlanError("a", fix="b", line=2).at(9).line == 2


def test_a_refusal_is_a_value_error_so_that_models_may_raise_it():
    assert isinstance(PlanError("a", fix="b"), ValueError)
