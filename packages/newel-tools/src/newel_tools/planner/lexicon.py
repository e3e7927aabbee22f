"""The words a sentence is made of, apart from what it is about."""

from __future__ import annotations

import re
from typing import Final

__all__ = [
    "ADJECTIVES",
    "AMBIGUOUS",
    "API_NOUNS",
    "BREAKS",
    "DEED_NOUNS",
    "DETERMINERS",
    "EVERYONE",
    "FEATURES",
    "FEATURE_PARTS",
    "FIELD_PLURALS",
    "FOREIGN",
    "LEADS",
    "LISTED_AS",
    "MAKING_VERBS",
    "MANAGEMENT",
    "MASS_PLURALS",
    "MODERATE_VERBS",
    "PATRONS",
    "PEOPLE",
    "PREPOSITIONS",
    "QUALITIES",
    "READ_VERBS",
    "STATE_WORDS",
    "STOP_WORDS",
    "SURELY_FOREIGN",
    "TECHNOLOGY",
    "TIE_VERBS",
    "WORK_NOUNS",
    "WORK_VERBS",
    "WRITE_VERBS",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


DETERMINERS: Final = _words(
    "a all an any both each every exactly following its many multiple my one other our own "
    "several some the their three two various your"
)

_ASKS: Final = _words("give i let me need please provide s set should up us want we you")
LEADS: Final = _ASKS | _words(
    "build code create design develop generate implement like make prototype run scaffold write"
)
"""What a sentence starts with before it says what it wants."""

_SMALL: Final = _words(
    "also and are as at be been but by can contain containing contains could do does for from "
    "has have having i if in include includes including is it lets may must of on one only or "
    "per plus than that them then there these they this those to using via want was were where "
    "which while who whose will with without would no not"
)
STOP_WORDS: Final = DETERMINERS | _ASKS | _SMALL
"""Words that carry no content: whether they were understood is not asked."""

API_NOUNS: Final = _words(
    "api apis app application applications apps backend crud endpoint endpoints http microservice "
    "microservices platform portal program rest restful server service services site software "
    "solution system tool web website"
)
"""What a service is called without saying what it is about."""

MANAGEMENT: Final = _words(
    "administration archive catalog catalogue database directory list listing listings management "
    "manager planner processing registry scheduler scheduling tracker tracking"
)
"""``agent management`` is about agents."""

ADJECTIVES: Final = _words(
    "async asynchronous basic best built clean cloud complete enterprise fast full good grade "
    "internal lightweight minimal modern modular new nice online open powerful production proper "
    "quick ready robust scalable secure secured simple small smart tiny typed"
)
"""Praise and orders of size that change nothing."""

FEATURES: Final = _words(
    "auth authenticated authentication authorisation authorization docs documentation fastapi jwt "
    "login logins logout migrations oauth oauth2 openapi pagination password passwords permissions "
    "postgres postgresql python rbac registration signin signup sqlalchemy sqlite swagger "
    "validation"
)
"""What every service has."""

FEATURE_PARTS: Final = FEATURES | _words(
    "access account accounts based check checking checks comprehensive control crud docker email "
    "error errors filter filtering filters handling health integration limit limiting limits log "
    "logging logs monitoring operation operations paginated permission rate refresh reset role "
    "roles session sessions sort sorting test tests token tokens unit user users via"
)
"""What may stand beside those, or be one of them where nothing else is spoken of."""

AMBIGUOUS: Final = _words("account accounts check checks error errors log logs session sessions")
"""Features beside other features; alone they may be what a service is about."""

LISTED_AS: Final = _words(
    "entities entity following models objects resource resources tables things"
)
"""``resources: posts, tags`` is about posts and tags."""

EVERYONE: Final = _words("anybody anyone everybody everyone guests visitors")

FIELD_PLURALS: Final = _words("hours instructions minutes notes pages points seats servings steps")
"""Plurals that are one field of a thing, rather than things of their own."""

SURELY_FOREIGN: Final = _words(
    "avec eine einen einer erstelle fuer f\u00fcr mit pour und voor zum zur"
)
"""One of these is enough."""

FOREIGN: Final = _words(
    "avec baue bitte con crea crear cree creer de del der des die ein eine einen einer el erstelle "
    "et fuer f\u00fcr gestion ich la las le les los mit mon mi og para pour sur un una und une uno "
    "voor zum zur y"
)
"""Small words of other languages; two of them, and the sentence is not English."""

TECHNOLOGY: Final = _words(
    "aws azure bitcoin celery cron elasticsearch email gcp graphql grpc integration integrations "
    "kafka kubernetes mongodb mqtt mysql nats oauth paypal push queue queues rabbitmq redis s3 "
    "route routes saml sms smtp sso stripe telegram twilio webhook webhooks websocket websockets"
)
"""A phrase with one of these is about how things are done, not about what is kept."""

READ_VERBS: Final = _words("access browse get list read search see view")
WRITE_VERBS: Final = _words(
    "add author change collect create delete edit enter keep log maintain make "
    "manage modify organise organize own post publish record remove save share store submit track "
    "update upload write"
)
MAKING_VERBS: Final = _words(
    "add author collect create enter keep log make own post publish record save store submit "
    "upload write"
)
"""Those of them after which there is something new."""

MODERATE_VERBS: Final = _words("approve moderate reject review")

PEOPLE: Final = re.compile(
    "admins|agents|clients|guests|members|people|reps|staff|students|users|.+(?:ers|ors|ists|ians)"
)
"""Who does something: behind these, ``post`` and ``review`` are verbs."""

PATRONS: Final = _words("clients customers guests members owners patients students")
"""Who is served: where they are kept, the users are the staff, and work on the same rows."""

TIE_VERBS: Final = _words(
    "apply attend belong coach contribute depend enrol enroll enter join lead live participate "
    "play refer register report study subscribe supervise teach travel work"
)
"""What ties two things: ``students enrol in courses``. Any verb does between two plurals."""

DEED_NOUNS: Final = {
    "book": "bookings",
    "borrow": "loans",
    "rate": "ratings",
    "rent": "rentals",
    "reserve": "reservations",
    "upvote": "votes",
}
"""What is left behind by verbs whose noun is another word; ``like`` leaves likes."""

MASS_PLURALS: Final = _words(
    "analytics communications data earnings goods kids logistics media news operations sales "
    "savings series settings species sports statistics systems"
)
"""Plurals that compounds begin with: ``sales orders``."""

WORK_VERBS: Final = _words(
    "aggregate alert archive backup bill build calculate call cancel charge check clean close "
    "compute convert create deactivate delete email escalate expire export fetch generate import "
    "index invoice mail notify poll process purge push rebuild recalculate recompute refresh "
    "reindex release remind remove report resize retry run scan send summarise summarize sync "
    "synchronise synchronize tell text transcode trigger update warn"
)
"""What is done in the background, where a sentence says when."""

WORK_NOUNS: Final = _words(
    "backup billing calculation check cleanup digest email export import index mail maintenance "
    "newsletter notification reconciliation recalculation refresh reindex reminder report run "
    "statistics summary sync"
)
"""The same, as a thing: ``report every night``."""

QUALITIES: Final = _words("active inactive late old open overdue pending recent unpaid unread")
"""In which state something is: ``overdue tasks`` are tasks."""

STATE_WORDS: Final = _words("stage stages state states status statuses")

PREPOSITIONS: Final = _words("about for in inside of on per to under within")
"""Between two resources they make a link: ``comments on posts``."""

BREAKS: Final = PREPOSITIONS | _words(
    "across after against allow allowing allows and are as assigned at be because before belong "
    "belonging belongs between but by calculate calculates can connect connects consist consists "
    "contain containing contains could created deployed do does expose exposes from generates "
    "had has have having if import imports include includes including integrate integrated "
    "integrates into is keeping lets letting like may must nor only or over owned plus posted "
    "publishes send sending sends should so supports sync syncs that then they this use uses "
    "using via want wants was were when whenever where which while who whose will with without "
    "would written"
)
"""No phrase that names something goes across one of these."""
