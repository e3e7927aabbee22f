"""One and many."""

import pytest

from newel_tools.plan.nouns import is_plural, plural, singular
from newel_tools.planner.vocabulary import vocabulary

PAIRS = """
post posts, category categories, box boxes, class classes, address addresses, bus buses,
status statuses, person people, child children, analysis analyses, quiz quizzes, movie movies,
house houses, course courses, license licenses, day days, key keys, toy toys, story stories,
hero heroes, photo photos, shelf shelves, leaf leaves, bonus bonuses, virus viruses,
clause clauses, cause causes, case cases, size sizes, prize prizes, cache caches, church churches,
dish dishes, shoe shoes, tax taxes, index indices, expense expenses, warehouse warehouses,
entry entries, company companies, pharmacy pharmacies, lens lenses, knife knives, recipe recipes,
invoice invoices, process processes, purchase purchases, survey surveys, journey journeys,
country countries, topic topics, clinic clinics, metric metrics, cookie cookies, match matches,
branch branches, headache headaches, blog_post blog_posts, order_item order_items, tie ties,
waltz waltzes, query queries, soliloquy soliloquies, matrix matrices, alias aliases, gas gases
"""


@pytest.mark.parametrize("pair", PAIRS.replace("\n", " ").split(","))
def test_one_and_many(pair):
    one, many = pair.split()

    assert plural(one) == many
    assert singular(many) == one
    assert plural(many) == many
    assert singular(one) == one
    assert is_plural(many)
    assert not is_plural(one)


@pytest.mark.parametrize("word", ["staff", "equipment", "news", "series", "species", "inventory"])
def test_some_are_one_and_many_at_once(word):
    assert plural(word) == singular(word) == word
    assert not is_plural(word)


@pytest.mark.parametrize(
    "word",
    ["status", "address", "analysis", "logistics", "analytics", "physics", "this", "is", "s", "as"],
)
def test_an_s_at_the_end_makes_no_plural(word):
    assert not is_plural(word)


def test_every_known_resource_is_a_plural_that_leads_back():
    for name in vocabulary().resources:
        noun = name.partition("@")[0]
        assert is_plural(noun), noun
        assert plural(singular(noun)) == noun
        assert singular(noun) != noun
