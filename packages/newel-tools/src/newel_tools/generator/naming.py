"""What things of a plan are called in Python: classes, variables, dependencies, words."""

from __future__ import annotations

import keyword
from typing import Final

from newel_tools.generator.imports import KNOWN

__all__ = ["actor", "camel", "class_name", "dependency", "variable", "with_article", "words"]

# what the templates call the parts of a function beside the row
_LOCALS: Final = frozenset(
    {
        *("after", "answer", "before", "body", "caller", "changes", "client", "data", "expected"),
        *("field", "fields", "found", "if_match", "links", "method", "query", "response"),
        *("request", "row", "self", "tagged", "url", "values", "work", "wrong"),
    }
)
_VOWELS: Final = ("a", "e", "i", "o", "u")
_SPOKEN_AS_CONSONANTS: Final = ("eu", "one", "uni", "url", "usa", "use", "usu", "uti")


def camel(name: str) -> str:
    """Return a name in snake_case as a class would have it."""
    return "".join(part.capitalize() for part in name.split("_"))


def words(name: str) -> str:
    """Return a name in snake_case as people write it."""
    return name.replace("_", " ")


def with_article(name: str) -> str:
    """Return ``an order item`` for ``order_item``."""
    vowel = name.startswith(_VOWELS) and not name.startswith(_SPOKEN_AS_CONSONANTS)
    return f"{'an' if vowel else 'a'} {words(name)}"


def class_name(singular: str) -> str:
    """Return the name of an entity, with ``Item`` behind one that the files import otherwise."""
    cls = camel(singular)
    # Event is the one name that the files of a resource never import beside their own class.
    return f"{cls}Item" if cls in {*KNOWN, "User"} - {"Event"} else cls


def dependency(plural: str, singular: str) -> str:
    """Return what routers call the service of a resource: ``Agents``."""
    name = camel(plural)
    return f"{name}Dep" if name in {*KNOWN, class_name(singular)} else name


def variable(plural: str, singular: str) -> str:
    """Return what a row is called in functions: its singular, unless that is taken."""
    taken = keyword.iskeyword(singular) or singular in {*_LOCALS, *KNOWN, plural}
    return f"{singular}_row" if taken else singular


def actor(permission: str, table: str) -> str:
    """Return who holds a permission: ``Moderator`` for ``comments:moderate``."""
    subject, _, verb = permission.replace("*", "all").partition(":")
    name = "Moderator" if verb == "moderate" else f"{camel(verb)}Caller"
    return name if subject == table else f"{camel(subject)}{name}"
