"""English nouns, as far as tables are called after them: one and many."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_plural", "plural", "singular"]

_IRREGULAR: Final = {
    "analysis": "analyses",
    "axis": "axes",
    "basis": "bases",
    "bus": "buses",
    "bonus": "bonuses",
    "campus": "campuses",
    "calf": "calves",
    "alias": "aliases",
    "gas": "gases",
    "lens": "lenses",
    "child": "children",
    "crisis": "crises",
    "criterion": "criteria",
    "curriculum": "curricula",
    "diagnosis": "diagnoses",
    "foot": "feet",
    "goose": "geese",
    "half": "halves",
    "hypothesis": "hypotheses",
    "index": "indices",
    "knife": "knives",
    "leaf": "leaves",
    "life": "lives",
    "loaf": "loaves",
    "man": "men",
    "matrix": "matrices",
    "medium": "media",
    "menu": "menus",
    "mouse": "mice",
    "person": "people",
    "phenomenon": "phenomena",
    "quiz": "quizzes",
    "shelf": "shelves",
    "status": "statuses",
    "thesis": "theses",
    "tooth": "teeth",
    "vertex": "vertices",
    "virus": "viruses",
    "wife": "wives",
    "wolf": "wolves",
    "woman": "women",
}
_SINGULAR: Final = {many: one for one, many in _IRREGULAR.items()}

# one word for one and many: the plural of the table is made up
_UNCOUNTED: Final = {
    "advice",
    "aircraft",
    "baggage",
    "cargo",
    "content",
    "equipment",
    "feedback",
    "furniture",
    "inventory",
    "knowledge",
    "luggage",
    "news",
    "series",
    "software",
    "species",
    "staff",
    "stock",
    "traffic",
    "weather",
}
# they end like a plural and are none
_NOT_PLURAL: Final = re.compile(
    r".*(ss|us|is|(ist|yt|ys|nom|mat|tron|th|bot|net)ics)$|(?:always|atlas|aws|bias|canvas|christmas|cms|dns|does|goes|gps|has|https?|"
    r"ios|its|kubernetes|perhaps|politics|pos|postgres|rss|saas|sms|sometimes|towards|was|whereas|yes)"
)
_OES: Final = {"echo", "hero", "mango", "potato", "tomato"}
_IES: Final = {"brownie", "calorie", "cookie", "genie", "movie", "selfie", "smoothie", "zombie"}
_CHES: Final = {"avalanche", "cache", "headache", "niche"}


def plural(word: str) -> str:
    """Return many of ``word`` (snake_case, its last part): ``blog_post`` - ``blog_posts``."""
    head, cut, last = word.rpartition("_")
    return head + cut + _many(last)


def singular(word: str) -> str:
    """Return one of ``word`` (snake_case): ``categories`` - ``category``."""
    head, cut, last = word.rpartition("_")
    return head + cut + _one(last)


def is_plural(word: str) -> bool:
    """Tell whether the last part of ``word`` stands for many."""
    last = word.rpartition("_")[2]
    if last in _SINGULAR:
        return True
    if last in _IRREGULAR or last in _UNCOUNTED or len(last) < 3:
        return False
    return last.endswith("s") and not _NOT_PLURAL.fullmatch(last)


def _many(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word in _UNCOUNTED or is_plural(word):
        return word
    if re.search(r"([^aeiou]|qu)y$", word):
        return word[:-1] + "ies"
    if re.search(r"(s|x|z|ch|sh)$", word) or word in _OES:
        return word + "es"
    return word + "s"


def _one(word: str) -> str:
    if word in _SINGULAR:
        return _SINGULAR[word]
    if not is_plural(word):
        return word
    if word.endswith("ies") and len(word) > 4 and word[:-1] not in _IES:
        return word[:-3] + "y"
    # boxes, classes, waltzes, dishes; and bonuses, but not houses or clauses
    if re.search(r"(ss|x|tz|sh|[^ao]us)es$", word):
        return word[:-2]
    if (word.endswith("ches") and word[:-1] not in _CHES) or word[:-2] in _OES:
        return word[:-2]
    return word[:-1]
