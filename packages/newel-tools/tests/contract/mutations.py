"""A document, and every way to change it that breaks a client or that does not.

An edit is a place (`paths > /agents > get`) and a new value; ``GONE`` removes it.
"""

import copy
from typing import Any

GONE = object()

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
AGENT = {"application/json": {"schema": {"$ref": "#/components/schemas/AgentRead"}}}
ID = {"name": "agent_id", "in": "path", "required": True, "schema": {"type": "string"}}

DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Agents", "version": "1.0.0"},
    "security": [{"Bearer": []}],
    "paths": {
        "/agents": {
            "get": {
                "operationId": "list_agents",
                "tags": ["agents"],
                "parameters": [
                    {
                        "name": "limit",
                        "in": "query",
                        "schema": {"type": "integer", "minimum": 1, "maximum": 100, "default": 20},
                    },
                    {
                        "name": "kind",
                        "in": "query",
                        "schema": {"type": "string", "enum": ["chat", "search"]},
                    },
                    {
                        "name": "tag",
                        "in": "query",
                        "schema": {
                            "type": "array",
                            "maxItems": 5,
                            "items": {"type": "string", "maxLength": 20},
                        },
                    },
                    {
                        "name": "q",
                        "in": "query",
                        "schema": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    },
                    {
                        "name": "X-Team",
                        "in": "header",
                        "required": True,
                        "schema": {"type": "string"},
                    },
                ],
                "responses": {
                    "200": {
                        "description": "A page",
                        "headers": {
                            "X-Total": {"required": True, "schema": {"type": "integer"}},
                            "X-Note": {"schema": {"type": "string"}},
                        },
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Page"}},
                            "text/csv": {"schema": {"type": "string"}},
                        },
                    },
                    "401": {"description": "Who are you?", "content": PROBLEM},
                },
            },
            "post": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {
                            "schema": {"$ref": "#/components/schemas/AgentCreate"}
                        },
                        "application/x-www-form-urlencoded": {
                            "schema": {
                                "type": "object",
                                "properties": {"name": {"type": "string"}},
                            }
                        },
                    },
                },
                "responses": {"201": {"description": "Created", "content": AGENT}},
            },
        },
        "/agents/{agent_id}": {
            "parameters": [ID],
            "get": {
                "security": [{"Bearer": []}, {"Key": []}],
                "responses": {"200": {"description": "One", "content": AGENT}},
            },
            "patch": {
                "security": [{"OAuth": ["agents:write"]}],
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/AgentUpdate"}}
                    }
                },
                "responses": {"200": {"description": "Changed", "content": AGENT}},
            },
            "delete": {"responses": {"204": {"description": "Gone"}}},
        },
        "/pets": {
            "get": {
                "security": [],
                "responses": {
                    "200": {
                        "description": "A pet",
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}
                        },
                    }
                },
            },
            "post": {
                "security": [],
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Pet"}}
                    },
                },
                "responses": {"204": {"description": "Kept"}},
            },
        },
        "/tree": {
            "get": {
                "responses": {
                    "200": {
                        "description": "A tree",
                        "content": {
                            "application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}
                        },
                    }
                }
            },
            "put": {
                "requestBody": {
                    "required": True,
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/Tree"}}
                    },
                },
                "responses": {"204": {"description": "Planted"}},
            },
        },
        "/older": {
            "get": {"deprecated": True, "responses": {"200": {"description": "Still here"}}}
        },
        "/oldest": {
            "get": {
                "deprecated": True,
                "x-sunset": "2020-01-01",
                "responses": {"200": {"description": "Over"}},
            }
        },
        "/lasting": {
            "get": {
                "deprecated": True,
                "x-sunset": "2999-01-01",
                "responses": {"200": {"description": "Until then"}},
            }
        },
    },
    "webhooks": {"agent.created": {"post": {"responses": {"204": {"description": "Thanks"}}}}},
    "components": {
        "securitySchemes": {
            "Bearer": {"type": "http", "scheme": "bearer"},
            "Key": {"type": "apiKey", "in": "header", "name": "X-Key"},
            "OAuth": {
                "type": "oauth2",
                "flows": {"password": {"tokenUrl": "login", "scopes": {"agents:write": "write"}}},
            },
        },
        "schemas": {
            "AgentCreate": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name"],
                "properties": {
                    "name": {
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 64,
                        "pattern": "^[a-z]+$",
                    },
                    "kind": {"type": "string", "enum": ["chat", "search"], "default": "chat"},
                    "mode": {"type": "string", "const": "fast"},
                    "retries": {"type": "integer", "minimum": 0, "maximum": 10, "default": 3},
                    "weight": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 9},
                    "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                    "tags": {
                        "type": "array",
                        "minItems": 1,
                        "maxItems": 5,
                        "items": {"type": "string"},
                    },
                    "either": {"anyOf": [{"type": "integer"}, {"type": "string"}]},
                    "free": {"type": "string"},
                    "id": {"type": "string", "readOnly": True},
                    "settings": {"type": "object", "additionalProperties": {"type": "integer"}},
                    "place": {"$ref": "#/components/schemas/Place"},
                },
            },
            "AgentUpdate": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "note": {"type": "string"}},
            },
            "AgentRead": {
                "allOf": [
                    {
                        "type": "object",
                        "required": ["id", "name", "kind", "age"],
                        "properties": {
                            "id": {"type": "string", "format": "uuid"},
                            "name": {"type": "string", "minLength": 1, "maxLength": 64},
                            "kind": {"type": "string", "enum": ["chat", "search"]},
                            "type": {"const": "agent", "type": "string"},
                            "age": {"type": "integer", "minimum": 0, "maximum": 150},
                            "note": {"type": "string"},
                            "parent": {
                                "anyOf": [
                                    {"$ref": "#/components/schemas/AgentRead"},
                                    {"type": "null"},
                                ]
                            },
                            "secret": {"type": "string", "writeOnly": True},
                        },
                    },
                    {
                        "type": "object",
                        "properties": {
                            "tags": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 5,
                                "items": {"type": "string"},
                            },
                            "place": {"$ref": "#/components/schemas/Place"},
                            "counts": {
                                "type": "object",
                                "additionalProperties": {"type": "integer"},
                            },
                        },
                    },
                ]
            },
            "Page": {
                "type": "object",
                "required": ["items", "total"],
                "properties": {
                    "items": {"type": "array", "items": {"$ref": "#/components/schemas/AgentRead"}},
                    "total": {"type": "integer"},
                },
            },
            "Place": {
                "type": "object",
                "required": ["city"],
                "properties": {"city": {"type": "string"}, "street": {"type": "string"}},
            },
            "Problem": {
                "type": "object",
                "required": ["title"],
                "properties": {"title": {"type": "string"}, "detail": {"type": "string"}},
            },
            "Pet": {
                "oneOf": [
                    {"$ref": "#/components/schemas/Cat"},
                    {"$ref": "#/components/schemas/Dog"},
                ],
                "discriminator": {"propertyName": "kind"},
            },
            "Cat": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"const": "cat", "type": "string"}},
            },
            "Dog": {
                "type": "object",
                "required": ["kind", "bark"],
                "properties": {
                    "kind": {"const": "dog", "type": "string"},
                    "bark": {"type": "string"},
                },
            },
            "Bird": {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": {"const": "bird", "type": "string"}},
            },
            "Tree": {
                "type": "object",
                "required": ["label"],
                "properties": {
                    "label": {"type": "string"},
                    "leaves": {
                        "type": "array",
                        "items": {"$ref": "#/components/schemas/Tree"},
                    },
                    "pair": {
                        "type": "array",
                        "prefixItems": [{"type": "integer"}, {"type": "string"}],
                    },
                },
            },
        },
    },
}

S = "components > schemas > "
CREATE = f"{S}AgentCreate > properties > "
UPDATE = f"{S}AgentUpdate > properties > "
READ = f"{S}AgentRead > allOf > 0 > properties > "
MORE = f"{S}AgentRead > allOf > 1 > properties > "
LIST = "paths > /agents > get > "
POST = "paths > /agents > post > "
ONE = "paths > /agents/{agent_id} > "
PARAMETERS = f"{LIST}parameters > "

Edits = dict[str, Any]

BREAKING: list[tuple[str, Edits, str]] = [
    # operations
    ("a path is gone", {"paths > /pets": GONE}, "api-path-removed-without-deprecation"),
    ("a method is gone", {f"{ONE}delete": GONE}, "api-removed-without-deprecation"),
    ("a path is gone too early", {"paths > /lasting": GONE}, "api-path-removed-before-sunset"),
    (
        "the last day of a removed path is none",
        {"paths > /lasting": GONE, "before: paths > /lasting > get > x-sunset": "soon"},
        "api-path-sunset-parse",
    ),
    ("the last day is unsaid", {"paths > /lasting > get > x-sunset": GONE}, "sunset-deleted"),
    ("a webhook is gone", {"webhooks > agent.created": GONE}, "webhook-removed"),
    # who may call
    (
        "an anonymous caller is refused",
        {"paths > /pets > get > security": [{"Bearer": []}]},
        "api-security-added",
    ),
    (
        "one of two ways in is gone",
        {f"{ONE}get > security": [{"Bearer": []}]},
        "api-security-removed",
    ),
    (
        "a scope more is asked for",
        {f"{ONE}patch > security": [{"OAuth": ["agents:write", "agents:admin"]}]},
        "api-security-scope-added",
    ),
    (
        "the token travels in another header",
        {
            "components > securitySchemes > Bearer": {
                "type": "apiKey",
                "in": "header",
                "name": "X-Token",
            }
        },
        "api-security-removed",
    ),
    # parameters
    ("a parameter is gone", {f"{PARAMETERS}1": GONE}, "request-parameter-removed"),
    (
        "a new parameter is required",
        {f"{PARAMETERS}+": {"name": "x", "in": "query", "required": True, "schema": {}}},
        "new-required-request-parameter",
    ),
    (
        "a parameter became required",
        {f"{PARAMETERS}1 > required": True},
        "request-parameter-became-required",
    ),
    (
        "the default page is smaller",
        {f"{PARAMETERS}0 > schema > default": 10},
        "request-parameter-default-value-changed",
    ),
    (
        "a default is gone",
        {f"{PARAMETERS}0 > schema > default": GONE},
        "request-parameter-default-value-removed",
    ),
    (
        "a default is new",
        {f"{PARAMETERS}1 > schema > default": "chat"},
        "request-parameter-default-value-added",
    ),
    (
        "the maximum fell",
        {f"{PARAMETERS}0 > schema > maximum": 50},
        "request-parameter-max-decreased",
    ),
    (
        "the minimum rose",
        {f"{PARAMETERS}0 > schema > minimum": 2},
        "request-parameter-min-increased",
    ),
    (
        "a value of a list is gone",
        {f"{PARAMETERS}1 > schema > enum": ["chat"]},
        "request-parameter-enum-value-removed",
    ),
    (
        "a parameter became a list of values",
        {f"{PARAMETERS}4 > schema > enum": ["a"]},
        "request-parameter-became-enum",
    ),
    (
        "a parameter's type changed",
        {f"{PARAMETERS}4 > schema > type": "integer"},
        "request-parameter-type-changed",
    ),
    (
        "null is refused",
        {f"{PARAMETERS}3 > schema": {"type": "string"}},
        "request-parameter-became-not-nullable",
    ),
    (
        "fewer items",
        {f"{PARAMETERS}2 > schema > maxItems": 4},
        "request-parameter-max-items-decreased",
    ),
    ("some items", {f"{PARAMETERS}2 > schema > minItems": 1}, "request-parameter-min-items-set"),
    (
        "a longest text",
        {f"{PARAMETERS}4 > schema > maxLength": 9},
        "request-parameter-max-length-set",
    ),
    (
        "a shortest text",
        {f"{PARAMETERS}4 > schema > minLength": 2},
        "request-parameter-min-length-increased",
    ),
    ("a pattern", {f"{PARAMETERS}4 > schema > pattern": "^a"}, "request-parameter-pattern-added"),
    (
        "lists are joined by commas",
        {f"{PARAMETERS}2 > explode": False},
        "request-parameter-style-changed",
    ),
    (
        "a parameter of the path is a number",
        {f"{ONE}parameters > 0 > schema > type": "integer"},
        "request-parameter-type-changed",
    ),
    # bodies
    (
        "a body is required",
        {f"{ONE}patch > requestBody > required": True},
        "request-body-became-required",
    ),
    (
        "a body is new and required",
        {
            f"{ONE}delete > requestBody": {
                "required": True,
                "content": {"application/json": {"schema": {}}},
            }
        },
        "request-body-added-required",
    ),
    ("the body is not read", {f"{POST}requestBody": GONE}, "request-body-removed"),
    (
        "JSON is not read",
        {f"{POST}requestBody > content > application/json": GONE},
        "request-body-media-type-removed",
    ),
    (
        "a field more is required",
        {f"{S}AgentCreate > required": ["name", "free"]},
        "request-property-became-required",
    ),
    (
        "a field with a default is required",
        {f"{S}AgentCreate > required": ["name", "retries"]},
        "request-property-became-required-with-default",
    ),
    (
        "a new field is required",
        {f"{S}AgentUpdate > required": ["a"], f"{UPDATE}a": {"type": "string"}},
        "new-required-request-property",
    ),
    (
        "a new field has a default and is required",
        {f"{S}AgentUpdate > required": ["a"], f"{UPDATE}a": {"type": "string", "default": ""}},
        "new-required-request-property-with-default",
    ),
    ("a field is refused", {f"{CREATE}free": GONE}, "request-property-removed"),
    (
        "unknown fields are refused",
        {f"{S}AgentUpdate > additionalProperties": False},
        "request-property-additional-properties-refused",
    ),
    ("text became a number", {f"{CREATE}free > type": "integer"}, "request-property-type-changed"),
    (
        "a number became whole",
        {f"{CREATE}weight > type": "integer"},
        "request-property-type-changed",
    ),
    (
        "text became an e-mail address",
        {f"{CREATE}free > format": "email"},
        "request-property-type-changed",
    ),
    (
        "anything became text",
        {f"before: {UPDATE}note": {}},
        "request-property-type-changed",
    ),
    (
        "null is refused in a field",
        {f"{CREATE}note": {"type": "string"}},
        "request-property-became-not-nullable",
    ),
    (
        "a listed value is gone",
        {f"{CREATE}kind > enum": ["chat"]},
        "request-property-enum-value-removed",
    ),
    (
        "free text became a list",
        {f"{CREATE}free > enum": ["a", "b"]},
        "request-property-became-enum",
    ),
    ("free text became one value", {f"{CREATE}free > const": "a"}, "request-property-const-added"),
    (
        "one value became another",
        {f"{CREATE}mode > const": "slow"},
        "request-property-const-changed",
    ),
    ("shorter", {f"{CREATE}name > maxLength": 32}, "request-property-max-length-decreased"),
    ("short", {f"{CREATE}free > maxLength": 32}, "request-property-max-length-set"),
    ("longer at least", {f"{CREATE}name > minLength": 2}, "request-property-min-length-increased"),
    ("smaller", {f"{CREATE}retries > maximum": 5}, "request-property-max-decreased"),
    ("larger at least", {f"{CREATE}retries > minimum": 1}, "request-property-min-increased"),
    (
        "smaller, exclusively",
        {f"{CREATE}weight > exclusiveMaximum": 8},
        "request-property-exclusive-max-decreased",
    ),
    (
        "larger, exclusively",
        {f"{CREATE}weight > exclusiveMinimum": 1},
        "request-property-exclusive-min-increased",
    ),
    (
        "a bound that was open is closed",
        {f"{CREATE}settings > additionalProperties > maximum": 3},
        "request-property-max-set",
    ),
    (
        "a lower bound is new",
        {f"{CREATE}settings > additionalProperties > minimum": 3},
        "request-property-min-set",
    ),
    ("fewer tags", {f"{CREATE}tags > maxItems": 4}, "request-property-max-items-decreased"),
    ("more tags at least", {f"{CREATE}tags > minItems": 2}, "request-property-min-items-increased"),
    (
        "tags have to differ",
        {f"{CREATE}tags > uniqueItems": True},
        "request-property-unique-items-set",
    ),
    (
        "multiples only",
        {f"{CREATE}retries > multipleOf": 2},
        "request-property-multiple-of-changed",
    ),
    (
        "another pattern",
        {f"{CREATE}name > pattern": "^[a-f]+$"},
        "request-property-pattern-changed",
    ),
    ("a first pattern", {f"{CREATE}free > pattern": "^[a-f]+$"}, "request-property-pattern-added"),
    (
        "one of two types is gone",
        {f"{CREATE}either": {"type": "integer"}},
        "request-property-any-of-removed",
    ),
    (
        "the items became numbers",
        {f"{CREATE}tags > items > type": "integer"},
        "request-property-type-changed",
    ),
    (
        "the values of a map became text",
        {f"{CREATE}settings > additionalProperties > type": "string"},
        "request-property-type-changed",
    ),
    (
        "a shared schema asks for more",
        {f"{S}Place > required": ["city", "street"]},
        "request-property-became-required",
    ),
    ("a kind of pet is refused", {f"{S}Pet > oneOf > 1": GONE}, "request-body-one-of-removed"),
    (
        "deep in a recursive schema",
        {f"{S}Tree > properties > label > maxLength": 3},
        "request-property-max-length-set",
    ),
    (
        "the second of a pair",
        {f"{S}Tree > properties > pair > prefixItems > 1 > type": "boolean"},
        "request-property-type-changed",
    ),
    (
        "a condition is new",
        {f"{S}AgentUpdate > dependentRequired": {"name": ["note"]}},
        "request-body-dependent-required-added",
    ),
    (
        "names of properties are bound",
        {f"{CREATE}settings > propertyNames": {"maxLength": 3}},
        "request-property-property-names-added",
    ),
    (
        "something is forbidden",
        {f"{S}AgentUpdate > not": {"required": ["note"]}},
        "request-property-not-changed",
    ),
    # answers
    (
        "a success is not answered",
        {f"{ONE}delete > responses": {"200": {"description": "Gone"}}},
        "response-success-status-removed",
    ),
    (
        "CSV is gone",
        {f"{LIST}responses > 200 > content > text/csv": GONE},
        "response-media-type-removed",
    ),
    (
        "a field is gone",
        {f"{READ}name": GONE, f"{S}AgentRead > allOf > 0 > required": ["id", "kind", "age"]},
        "response-required-property-removed",
    ),
    ("an optional field is gone", {f"{READ}note": GONE}, "response-optional-property-removed"),
    (
        "a field may be missing",
        {f"{S}AgentRead > allOf > 0 > required": ["id", "name", "kind"]},
        "response-property-became-optional",
    ),
    (
        "a field may be null",
        {
            f"{READ}name": {
                "anyOf": [{"type": "string", "minLength": 1, "maxLength": 64}, {"type": "null"}]
            }
        },
        "response-property-became-nullable",
    ),
    ("a number became text", {f"{READ}age": {"type": "string"}}, "response-property-type-changed"),
    (
        "a whole number became any",
        {f"{READ}age > type": "number"},
        "response-property-type-generalized",
    ),
    ("an id is any text", {f"{READ}id > format": GONE}, "response-property-type-generalized"),
    (
        "a new value in an answer",
        {f"{READ}kind > enum": ["chat", "search", "voice"]},
        "response-property-enum-value-added",
    ),
    (
        "an answer is no longer one of a list",
        {f"{READ}kind > enum": GONE},
        "response-property-enum-removed",
    ),
    ("the constant changed", {f"{READ}type > const": "bot"}, "response-property-const-changed"),
    ("the constant is gone", {f"{READ}type > const": GONE}, "response-property-const-removed"),
    ("longer answers", {f"{READ}name > maxLength": 128}, "response-property-max-length-increased"),
    (
        "answers of any length",
        {f"{READ}name > maxLength": GONE},
        "response-property-max-length-unset",
    ),
    ("empty answers", {f"{READ}name > minLength": GONE}, "response-property-min-length-decreased"),
    ("larger answers", {f"{READ}age > maximum": 200}, "response-property-max-increased"),
    ("answers of any size", {f"{READ}age > maximum": GONE}, "response-property-max-unset"),
    ("smaller answers", {f"{READ}age > minimum": -1}, "response-property-min-decreased"),
    ("empty lists", {f"{MORE}tags > minItems": GONE}, "response-property-min-items-unset"),
    ("longer lists", {f"{MORE}tags > maxItems": 9}, "response-property-max-items-increased"),
    (
        "a pet of a new kind",
        {f"{S}Pet > oneOf > +": {"$ref": "#/components/schemas/Bird"}},
        "response-body-one-of-added",
    ),
    (
        "an answer of two types",
        {f"{READ}note": {"anyOf": [{"type": "string"}, {"type": "integer"}]}},
        "response-property-any-of-added",
    ),
    (
        "a promised header is gone",
        {f"{LIST}responses > 200 > headers > X-Total": GONE},
        "required-response-header-removed",
    ),
    (
        "a header is gone",
        {f"{LIST}responses > 200 > headers > X-Note": GONE},
        "optional-response-header-removed",
    ),
    (
        "a header may be missing",
        {f"{LIST}responses > 200 > headers > X-Total > required": GONE},
        "response-header-became-optional",
    ),
    (
        "a header's type changed",
        {f"{LIST}responses > 200 > headers > X-Total > schema > type": "string"},
        "response-header-type-changed",
    ),
    (
        "a field of an error is gone",
        {f"{S}Problem > properties > detail": GONE},
        "response-optional-property-removed",
    ),
    (
        "a map's values changed",
        {f"{MORE}counts > additionalProperties > type": "string"},
        "response-property-type-changed",
    ),
    (
        "a field of a shared schema is gone",
        {f"{S}Place > properties > street": GONE},
        "response-optional-property-removed",
    ),
    (
        "the body of an answer is gone",
        {f"{ONE}get > responses > 200 > content": GONE},
        "response-media-type-removed",
    ),
    (
        "the schema of an answer is gone",
        {f"{ONE}get > responses > 200 > content > application/json": {}},
        "response-body-media-type-schema-removed",
    ),
]

SAFE: list[tuple[str, Edits]] = [
    ("nothing changed", {}),
    (
        "words",
        {
            "info > description": "New words",
            f"{LIST}summary": "List",
            f"{READ}name > description": "It",
        },
    ),
    ("titles and examples", {f"{READ}name > title": "Name", f"{READ}name > examples": ["ada"]}),
    ("a new version number", {"info > version": "1.1.0"}),
    ("a new path", {"paths > /new": {"get": {"responses": {"200": {"description": "New"}}}}}),
    ("a new method", {f"{ONE}put": {"responses": {"204": {"description": "New"}}}}),
    ("a deprecation", {f"{ONE}delete > deprecated": True}),
    (
        "a deprecation with its end",
        {f"{ONE}delete > deprecated": True, f"{ONE}delete > x-sunset": "2999-01-01"},
    ),
    ("a deprecated path is gone", {"paths > /older": GONE}),
    ("a path whose time is over is gone", {"paths > /oldest": GONE}),
    ("no longer deprecated", {"paths > /older > get > deprecated": GONE}),
    ("another operation id", {f"{LIST}operationId": "agents"}),
    ("another tag", {f"{LIST}tags": ["staff"]}),
    (
        "a path parameter has another name",
        {
            "rename: /agents/{agent_id}": "/agents/{id}",
            "then: paths > /agents/{id} > parameters > 0 > name": "id",
        },
    ),
    ("a webhook is new", {"webhooks > agent.gone": {}}),
    ("anyone may call", {f"{ONE}get > security": []}),
    ("one more way in", {f"{LIST}security": [{"Bearer": []}, {"Key": []}]}),
    ("fewer scopes", {f"{ONE}patch > security": [{"OAuth": []}]}),
    (
        "a scheme has another name",
        {
            "components > securitySchemes > JWT": {"type": "http", "scheme": "bearer"},
            "security": [{"JWT": []}],
            f"{ONE}get > security": [{"JWT": []}, {"Key": []}],
        },
    ),
    (
        "the bearer's token comes from OAuth2",
        {"components > securitySchemes > Bearer": {"type": "oauth2", "flows": {}}},
    ),
    (
        "a new optional parameter",
        {f"{PARAMETERS}+": {"name": "x", "in": "query", "schema": {"type": "string"}}},
    ),
    ("a parameter became optional", {f"{PARAMETERS}4 > required": False}),
    ("a header in another case", {f"{PARAMETERS}4 > name": "x-team"}),
    (
        "an ignored header",
        {
            f"{PARAMETERS}+": {
                "name": "Accept",
                "in": "header",
                "required": True,
                "schema": {"type": "string"},
            }
        },
    ),
    ("a larger maximum", {f"{PARAMETERS}0 > schema > maximum": 200}),
    ("no maximum", {f"{PARAMETERS}0 > schema > maximum": GONE}),
    ("a new value to ask for", {f"{PARAMETERS}1 > schema > enum": ["chat", "search", "voice"]}),
    ("any value to ask for", {f"{PARAMETERS}1 > schema > enum": GONE}),
    (
        "a number of a query may be text",
        {f"{PARAMETERS}0 > schema": {"type": "string", "default": 20}},
    ),
    ("parameters in another order", {"reverse: " + f"{LIST}parameters": None}),
    ("a required body became optional", {f"{POST}requestBody > required": False}),
    (
        "one more media type to send",
        {f"{POST}requestBody > content > application/cbor": {"schema": {}}},
    ),
    ("a new optional field to send", {f"{CREATE}x": {"type": "string"}}),
    ("a field that open schemas ignore is gone", {f"{UPDATE}note": GONE}),
    ("a field became optional", {f"{S}AgentCreate > required": []}),
    ("unknown fields are ignored", {f"{S}AgentCreate > additionalProperties": GONE}),
    ("looser: length", {f"{CREATE}name > maxLength": 128, f"{CREATE}name > minLength": 0}),
    ("looser: bounds", {f"{CREATE}retries > maximum": 20, f"{CREATE}retries > minimum": GONE}),
    (
        "looser: exclusive became inclusive",
        {f"{CREATE}weight > exclusiveMinimum": GONE, f"{CREATE}weight > minimum": 0},
    ),
    (
        "the same bound of a whole number",
        {f"{CREATE}retries > minimum": GONE, f"{CREATE}retries > exclusiveMinimum": -1},
    ),
    ("looser: type", {f"{CREATE}retries > type": "number"}),
    ("looser: null", {f"{CREATE}free": {"type": ["string", "null"]}}),
    ("looser: pattern", {f"{CREATE}name > pattern": GONE}),
    ("looser: any pattern", {f"{CREATE}name > pattern": ".*"}),
    ("looser: items", {f"{CREATE}tags > minItems": GONE, f"{CREATE}tags > maxItems": GONE}),
    ("looser: one type more", {f"{CREATE}either > anyOf > +": {"type": "boolean"}}),
    (
        "looser: a type that contains the old ones",
        {f"{CREATE}either": {"anyOf": [{"type": "number"}, {"type": "string"}]}},
    ),
    (
        "looser: one value became two",
        {f"{CREATE}mode": {"type": "string", "enum": ["fast", "slow"]}},
    ),
    ("looser: one value became any", {f"{CREATE}mode > const": GONE}),
    (
        "looser: format",
        {f"before: {CREATE}free > format": "email"},
    ),
    ("how a text is shown", {f"{CREATE}free > format": "password"}),
    (
        "a field that is only read is new",
        {
            f"{S}AgentCreate > required": ["name", "age"],
            f"{CREATE}age": {"type": "integer", "readOnly": True},
        },
    ),
    ("a field that is only read is shorter", {f"{CREATE}id > maxLength": 9}),
    ("a default of a field", {f"{CREATE}retries > default": 5}),
    ("a new status of success", {f"{POST}responses > 202": {"description": "Later"}}),
    ("a new error", {f"{POST}responses > 409": {"description": "Twice", "content": PROBLEM}}),
    ("an error is not answered", {f"{LIST}responses > 401": GONE}),
    (
        "one more media type to get",
        {f"{LIST}responses > 200 > content > application/cbor": {"schema": {}}},
    ),
    ("a new header", {f"{LIST}responses > 200 > headers > X-New": {"schema": {"type": "string"}}}),
    ("a header is promised", {f"{LIST}responses > 200 > headers > X-Note > required": True}),
    ("a new field in an answer", {f"{READ}new": {"type": "string"}}),
    ("a field is always there", {f"{S}AgentRead > allOf > 1 > required": ["tags"]}),
    ("an answer is never null", {f"{READ}parent": {"$ref": "#/components/schemas/AgentRead"}}),
    (
        "tighter answers",
        {f"{READ}name > maxLength": 32, f"{READ}age > maximum": 120, f"{READ}age > minimum": 1},
    ),
    ("fewer values in an answer", {f"{READ}kind > enum": ["chat"]}),
    (
        "a whole number where any was answered",
        {f"before: {READ}age > type": "number"},
    ),
    ("an answer's text is a date", {f"{READ}note > format": "date"}),
    ("a field that is only written is gone", {f"{READ}secret": GONE}),
    (
        "a kind of pet is not answered",
        {
            "paths > /pets > get > responses > 200 > content > application/json > schema": {
                "$ref": "#/components/schemas/Cat"
            }
        },
    ),
    (
        "the order of a union",
        {
            f"{S}Pet > oneOf": [
                {"$ref": "#/components/schemas/Dog"},
                {"$ref": "#/components/schemas/Cat"},
            ]
        },
    ),
    (
        "a schema written in place",
        {
            f"{CREATE}place": {
                "type": "object",
                "required": ["city"],
                "properties": {"city": {"type": "string"}, "street": {"type": "string"}},
            }
        },
    ),
    (
        "a schema under another name",
        {
            f"{S}Town": {"$ref": "#/components/schemas/Place"},
            f"{CREATE}place": {"$ref": "#/components/schemas/Town"},
        },
    ),
    ("null in the other spelling", {f"{CREATE}note": {"type": ["string", "null"]}}),
    (
        "null in the spelling of OpenAPI 3.0",
        {f"{CREATE}note": {"type": "string", "nullable": True}},
    ),
    ("an enum of one is a constant", {f"{CREATE}mode": {"type": "string", "enum": ["fast"]}}),
    (
        "a list of constants is an enum",
        {
            f"{CREATE}kind": {
                "default": "chat",
                "oneOf": [{"const": "chat", "title": "Chat"}, {"const": "search"}],
            }
        },
    ),
    ("a type that its values already said", {f"{CREATE}kind > type": GONE}),
    (
        "allOf written as one",
        {f"{CREATE}place": {"allOf": [{"$ref": "#/components/schemas/Place"}]}},
    ),
    ("an unused schema is gone", {f"{S}Bird": GONE}),
    ("an operation's own words for all security", {f"{LIST}security": [{"Bearer": []}]}),
]


def mutated(edits: Edits) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the document before and after; `before:` edits are made on both, else undone after."""
    old, new = copy.deepcopy(DOCUMENT), copy.deepcopy(DOCUMENT)
    for place, value in edits.items():
        kind, _, rest = place.partition(": ")
        if kind == "before":
            _edit(old, rest, value)
        elif kind == "reverse":
            _edit(new, rest, [*reversed(_at(new, rest))])
        elif kind == "rename":
            new["paths"] = {
                (value if path == rest else path): item for path, item in new["paths"].items()
            }
        else:
            _edit(new, rest if kind == "then" else place, value)
    return old, new


def _at(node: Any, place: str) -> Any:
    for part in place.split(" > "):
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def _edit(document: Any, place: str, value: Any) -> None:
    above, _, last = place.rpartition(" > ")
    node = _at(document, above) if above else document
    if isinstance(node, list):
        if last == "+":
            node.append(copy.deepcopy(value))
        elif value is GONE:
            del node[int(last)]
        else:
            node[int(last)] = copy.deepcopy(value)
    elif value is GONE:
        del node[last]
    else:
        node[last] = copy.deepcopy(value)
