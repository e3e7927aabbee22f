"""The names of changes and how bad each is.

Names and levels are oasdiff's, so that its documentation and its users' habits hold here. ``OWN``
are ours: breaks that it has no name for.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

__all__ = ["OWN", "RULES", "Level", "rule_of"]


class Level(StrEnum):
    """What a change does to a client: errors and warnings break, information does not."""

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"

    @property
    def breaks(self) -> bool:
        """Whether a client that works today may stop working."""
        return self is not Level.INFO


_ERRORS: Final = """
api-path-removed-without-deprecation api-removed-without-deprecation
api-path-removed-before-sunset api-removed-before-sunset api-path-sunset-parse
sunset-deleted
request-body-added-required request-body-became-required request-body-removed
request-body-media-type-removed request-body-media-type-schema-added
new-required-request-parameter request-parameter-became-required
request-parameter-default-value-added request-parameter-default-value-changed
request-parameter-default-value-removed
new-required-request-property new-required-request-property-with-default
request-property-became-required request-property-became-required-with-default
request-body-became-enum request-property-became-enum request-parameter-became-enum
request-body-enum-value-removed request-property-enum-value-removed
request-parameter-enum-value-removed request-parameter-property-enum-value-removed
request-body-const-added request-body-const-changed
request-property-const-added request-property-const-changed
request-body-became-not-nullable request-property-became-not-nullable
request-parameter-became-not-nullable request-parameter-property-became-not-nullable
request-body-type-changed request-property-type-changed request-parameter-type-changed
request-body-list-of-types-narrowed request-property-list-of-types-narrowed
request-parameter-list-of-types-narrowed request-parameter-property-list-of-types-narrowed
request-body-any-of-removed request-property-any-of-removed
request-body-one-of-removed request-property-one-of-removed
request-body-max-decreased request-property-max-decreased request-parameter-max-decreased
request-body-exclusive-max-decreased request-property-exclusive-max-decreased
request-parameter-exclusive-max-decreased
request-body-min-increased request-property-min-increased request-parameter-min-increased
request-body-exclusive-min-increased request-property-exclusive-min-increased
request-parameter-exclusive-min-increased
request-body-max-length-decreased request-property-max-length-decreased
request-parameter-max-length-decreased
request-body-min-length-increased request-property-min-length-increased
request-parameter-min-length-increased
request-parameter-max-items-decreased
request-body-min-items-increased request-property-min-items-increased
request-parameter-min-items-increased
request-property-pattern-added request-parameter-pattern-added
request-body-prefix-items-removed request-property-prefix-items-removed
request-body-property-names-added request-property-property-names-added
request-body-pattern-property-added request-property-pattern-property-added
request-body-contains-added request-property-contains-added
request-body-if-added request-property-if-added
request-body-then-added request-property-then-added
request-body-else-added request-property-else-added
request-body-dependent-required-added request-property-dependent-required-added
request-body-dependent-schema-added request-property-dependent-schema-added
request-body-unevaluated-properties-added request-property-unevaluated-properties-added
request-body-unevaluated-items-added request-property-unevaluated-items-added
response-success-status-removed response-media-type-removed
response-required-property-removed response-property-became-optional
response-body-became-nullable response-property-became-nullable
response-body-type-changed response-property-type-changed
response-body-type-generalized response-property-type-generalized
response-body-list-of-types-widened response-property-list-of-types-widened
response-body-one-of-added response-property-one-of-added
response-body-const-removed response-property-const-removed
response-body-const-changed response-property-const-changed
response-body-max-increased response-property-max-increased
response-body-exclusive-max-increased response-property-exclusive-max-increased
response-body-min-decreased response-property-min-decreased
response-body-exclusive-min-decreased response-property-exclusive-min-decreased
response-body-max-length-increased response-property-max-length-increased
response-body-max-length-unset response-property-max-length-unset
response-body-min-length-decreased response-property-min-length-decreased
response-body-min-items-decreased response-property-min-items-decreased
response-body-min-items-unset response-property-min-items-unset
response-body-prefix-items-added response-property-prefix-items-added
response-body-property-names-removed response-property-property-names-removed
response-body-pattern-property-removed response-property-pattern-property-removed
response-body-contains-removed response-property-contains-removed
response-body-if-removed response-property-if-removed
response-body-then-removed response-property-then-removed
response-body-else-removed response-property-else-removed
response-body-dependent-required-removed response-property-dependent-required-removed
response-body-dependent-schema-removed response-property-dependent-schema-removed
response-body-unevaluated-properties-removed response-property-unevaluated-properties-removed
response-body-unevaluated-items-removed response-property-unevaluated-items-removed
required-response-header-removed response-header-became-optional
response-header-became-nullable response-header-type-changed response-header-type-generalized
webhook-removed
"""

_WARNINGS: Final = """
request-parameter-removed request-property-removed
request-parameter-property-type-changed
request-body-max-set request-property-max-set request-parameter-max-set
request-body-exclusive-max-set request-property-exclusive-max-set
request-parameter-exclusive-max-set
request-body-min-set request-property-min-set request-parameter-min-set
request-body-exclusive-min-set request-property-exclusive-min-set
request-parameter-exclusive-min-set
request-body-max-length-set request-property-max-length-set request-parameter-max-length-set
request-body-min-items-set request-property-min-items-set request-parameter-min-items-set
request-property-pattern-changed request-parameter-pattern-changed
response-optional-property-removed response-property-enum-value-added
response-body-media-type-schema-removed
response-required-property-became-not-write-only
optional-response-header-removed
"""

_INFORMATION: Final = """
endpoint-added endpoint-deprecated endpoint-deprecated-with-sunset endpoint-reactivated
api-path-removed-with-deprecation api-removed-with-deprecation
api-operation-id-removed api-operation-id-added api-tag-removed api-tag-added
api-security-added api-security-removed api-security-scope-added api-security-scope-removed
request-body-added-optional request-body-became-optional
request-body-media-type-added request-body-media-type-schema-removed
new-optional-request-parameter request-parameter-became-optional
request-parameter-deprecated request-parameter-reactivated
request-parameter-removed-with-deprecation
new-optional-request-property request-property-became-optional
request-property-deprecated request-property-reactivated
request-body-default-value-added request-body-default-value-changed
request-body-default-value-removed
request-property-default-value-added request-property-default-value-changed
request-property-default-value-removed
request-property-enum-value-added request-parameter-enum-value-added
request-parameter-property-enum-value-added
request-body-const-removed request-property-const-removed
request-body-became-nullable request-property-became-nullable request-parameter-became-nullable
request-parameter-property-became-nullable
request-body-type-generalized request-property-type-generalized
request-parameter-type-generalized request-parameter-property-type-generalized
request-body-list-of-types-widened request-property-list-of-types-widened
request-parameter-list-of-types-widened request-parameter-property-list-of-types-widened
request-body-any-of-added request-property-any-of-added
request-body-one-of-added request-property-one-of-added
request-body-max-increased request-property-max-increased request-parameter-max-increased
request-body-exclusive-max-increased request-property-exclusive-max-increased
request-parameter-exclusive-max-increased
request-body-min-decreased request-property-min-decreased request-parameter-min-decreased
request-body-exclusive-min-decreased request-property-exclusive-min-decreased
request-parameter-exclusive-min-decreased
request-body-max-length-increased request-property-max-length-increased
request-parameter-max-length-increased
request-body-min-length-decreased request-property-min-length-decreased
request-parameter-min-length-decreased
request-parameter-max-items-increased request-parameter-min-items-decreased
request-property-pattern-removed request-property-pattern-generalized
request-parameter-pattern-removed request-parameter-pattern-generalized
request-body-prefix-items-added request-property-prefix-items-added
request-body-property-names-removed request-property-property-names-removed
request-body-pattern-property-removed request-property-pattern-property-removed
request-body-contains-removed request-property-contains-removed
request-body-if-removed request-property-if-removed
request-body-then-removed request-property-then-removed
request-body-else-removed request-property-else-removed
request-body-dependent-required-removed request-property-dependent-required-removed
request-body-dependent-schema-removed request-property-dependent-schema-removed
request-body-unevaluated-properties-removed request-property-unevaluated-properties-removed
request-body-unevaluated-items-removed request-property-unevaluated-items-removed
request-optional-property-became-read-only request-optional-property-became-not-read-only
request-required-property-became-read-only request-required-property-became-not-read-only
request-optional-property-became-write-only request-optional-property-became-not-write-only
request-required-property-became-write-only request-required-property-became-not-write-only
request-body-discriminator-added request-body-discriminator-removed
request-body-discriminator-property-name-changed
request-property-discriminator-added request-property-discriminator-removed
request-property-discriminator-property-name-changed
response-success-status-added response-non-success-status-added
response-non-success-status-removed response-media-type-added
response-body-media-type-schema-added
response-optional-property-added response-required-property-added
response-property-became-required
response-property-deprecated response-property-reactivated
response-body-default-value-added response-body-default-value-changed
response-body-default-value-removed
response-property-default-value-added response-property-default-value-changed
response-property-default-value-removed
response-property-enum-value-removed
response-body-const-added response-property-const-added
response-body-became-not-nullable response-property-became-not-nullable
response-body-type-specialized response-property-type-specialized
response-body-list-of-types-narrowed response-property-list-of-types-narrowed
response-body-any-of-added response-property-any-of-added
response-body-any-of-removed response-property-any-of-removed
response-body-one-of-removed response-property-one-of-removed
response-property-pattern-added response-property-pattern-changed
response-property-pattern-removed
response-body-prefix-items-removed response-property-prefix-items-removed
response-body-property-names-added response-property-property-names-added
response-body-pattern-property-added response-property-pattern-property-added
response-body-contains-added response-property-contains-added
response-body-if-added response-property-if-added
response-body-then-added response-property-then-added
response-body-else-added response-property-else-added
response-body-dependent-required-added response-property-dependent-required-added
response-body-dependent-schema-added response-property-dependent-schema-added
response-body-unevaluated-properties-added response-property-unevaluated-properties-added
response-body-unevaluated-items-added response-property-unevaluated-items-added
response-optional-property-became-read-only response-optional-property-became-not-read-only
response-required-property-became-read-only response-required-property-became-not-read-only
response-optional-property-became-write-only response-optional-property-became-not-write-only
response-required-property-became-write-only
response-body-discriminator-added response-body-discriminator-removed
response-body-discriminator-property-name-changed
response-property-discriminator-added response-property-discriminator-removed
response-property-discriminator-property-name-changed
response-header-added response-header-became-not-nullable response-header-type-specialized
webhook-added
"""

OWN: Final = {
    # What a document shows, without a name in oasdiff.
    "request-property-additional-properties-refused": Level.WARNING,
    "request-property-additional-properties-allowed": Level.INFO,
    "response-property-additional-properties-refused": Level.INFO,
    "response-property-additional-properties-allowed": Level.INFO,
    "request-property-max-items-set": Level.WARNING,
    "request-property-max-items-decreased": Level.ERROR,
    "request-property-max-items-increased": Level.INFO,
    "response-property-max-items-increased": Level.ERROR,
    "response-property-max-items-unset": Level.ERROR,
    "response-property-max-unset": Level.ERROR,
    "response-property-exclusive-max-unset": Level.ERROR,
    "response-property-min-unset": Level.ERROR,
    "response-property-exclusive-min-unset": Level.ERROR,
    "request-property-max-properties-set": Level.WARNING,
    "request-property-max-properties-decreased": Level.ERROR,
    "request-property-min-properties-increased": Level.ERROR,
    "request-property-multiple-of-changed": Level.ERROR,
    "request-property-unique-items-set": Level.WARNING,
    "request-parameter-const-added": Level.ERROR,
    "request-parameter-const-changed": Level.ERROR,
    "request-parameter-style-changed": Level.ERROR,
    "request-parameter-any-of-removed": Level.ERROR,
    "response-property-enum-removed": Level.WARNING,
    "request-property-not-changed": Level.WARNING,
    "response-property-not-changed": Level.INFO,
    # What no document shows: see hidden.py.
    "hidden-route-removed": Level.ERROR,
    "hidden-route-added": Level.INFO,
    "route-hidden": Level.WARNING,
    "access-narrowed": Level.ERROR,
    "access-widened": Level.INFO,
    "access-changed": Level.WARNING,
    "response-exclude-changed": Level.ERROR,
    "response-exclude-loosened": Level.INFO,
}
"""Rules without an oasdiff name."""

RULES: Final[dict[str, Level]] = {
    **dict.fromkeys(_ERRORS.split(), Level.ERROR),
    **dict.fromkeys(_WARNINGS.split(), Level.WARNING),
    **dict.fromkeys(_INFORMATION.split(), Level.INFO),
    **OWN,
}
"""Every rule with its level; a change may carry another when both documents decide it."""


def rule_of(direction: str, scope: str, aspect: str) -> str | None:
    """Return the name for an aspect of a ``body``, ``property``, ``parameter`` or ``header``.

    oasdiff does not name every aspect in every scope: the property's name stands in. None for what
    nobody would want to hear (a tighter bound in an answer).
    """
    for tried in dict.fromkeys((scope, scope.partition("-")[0], "property")):
        if (name := f"{direction}-{tried}-{aspect}") in RULES:
            return name
    return None
