"""``newel.problems``: OpenAPI says of every operation what it can answer."""

import json
import re
from typing import Annotated, Any

import pytest
import schemathesis
from fastapi import (
    APIRouter,
    Depends,
    FastAPI,
    Header,
)
from fastapi.security import HTTPBearer
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field
from sample_routes import Agent, NewAgent, raising
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi import checks as conformance

from newel import problems
from newel.errors import (
    NotFound,
    PreconditionFailed,
)


class Guard:
    """Marks a dependency as ``auth``'s do: the permissions it asks for, none when it is public."""

    def __init__(self, *permissions: str) -> None:
        self.__newel_access__ = permissions

    async def __call__(self) -> None: ...


def documented_application() -> FastAPI:
    app = FastAPI(title="Agents", openapi_tags=[{"name": "agents", "description": "All agents"}])
    problems.install(app)
    problems.document(app)
    routes = APIRouter(tags=["agents"])
    guarded = [Depends(Guard("agents:write"))]

    @routes.get("", dependencies=[Depends(Guard())])
    async def list_agents() -> list[Agent]:
        return []

    @routes.get("/search", dependencies=[Depends(Guard())])
    async def search_agents(page: Annotated[int, Field(ge=1, le=1000)] = 1) -> list[Agent]:
        return []

    @routes.post("", status_code=201, dependencies=guarded)
    async def create_agent(data: NewAgent) -> Agent:
        return Agent(id=1, name=data.name)

    @routes.get("/{agent_id}", dependencies=guarded)
    async def read_agent(agent_id: int) -> Agent:
        if agent_id != 1:
            raise NotFound("agent", agent_id)
        return Agent(id=1, name="one")

    @routes.put("/{agent_id}", dependencies=guarded)
    async def replace_agent(
        agent_id: int, data: NewAgent, if_match: Annotated[str | None, Header()] = None
    ) -> Agent:
        if if_match:
            raise PreconditionFailed
        return Agent(id=agent_id, name=data.name)

    @routes.delete(
        "/{agent_id}",
        status_code=204,
        responses={
            409: {"description": "The agent is running"},
            422: {"description": "Own words", "content": {"application/*": {}}},
            "5XX": {"description": "Broken"},
        },
    )
    async def delete_agent(agent_id: int) -> None: ...

    @routes.post("/hidden", include_in_schema=False)
    async def hidden_route() -> None: ...

    app.include_router(routes, prefix="/agents")
    return app


@pytest.fixture
def openapi() -> dict[str, Any]:
    return documented_application().openapi()


def statuses(openapi: dict[str, Any], method: str, path: str) -> set[int]:
    return {int(s) for s in openapi["paths"][path][method]["responses"] if s.isdigit()}


ALWAYS = {429, 500, 503}
BODY = {400, 413, 415, 422}


class TestOpenAPI:
    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("get", "/agents", {200} | ALWAYS),
            ("get", "/agents/search", {200, 422} | ALWAYS),
            ("post", "/agents", {201, 401, 403, 409} | BODY | ALWAYS),
            ("get", "/agents/{agent_id}", {200, 401, 403, 404, 422} | ALWAYS),
            ("put", "/agents/{agent_id}", {200, 401, 403, 404, 409, 412} | BODY | ALWAYS),
            ("delete", "/agents/{agent_id}", {204, 404, 409, 422} | ALWAYS),
        ],
    )
    def test_lists_every_status_an_operation_can_give_and_no_other(
        self, openapi: dict[str, Any], method: str, path: str, expected: set[int]
    ) -> None:
        assert statuses(openapi, method, path) == expected

    def test_lists_them_in_order(self, openapi: dict[str, Any]) -> None:
        listed = list(openapi["paths"]["/agents/{agent_id}"]["put"]["responses"])

        assert listed == sorted(listed)

    def test_a_parameter_that_is_not_shown_counts_too(self) -> None:
        app = FastAPI()
        problems.document(app)

        @app.get("/")
        def read(x_hidden: Annotated[int, Header(include_in_schema=False)] = 1) -> None: ...

        assert 422 in statuses(app.openapi(), "get", "/")

    @pytest.mark.parametrize(
        ("access", "expected"),
        [([], {401, 403}), ([Depends(Guard())], set()), ([Depends(Guard("a:b"))], {401, 403})],
        ids=["undeclared", "public", "guarded"],
    )
    def test_a_security_scheme_alone_counts_as_guarded(
        self, access: list[Any], expected: set[int]
    ) -> None:
        app = FastAPI(dependencies=access)
        problems.document(app)

        @app.get("/", dependencies=[Depends(HTTPBearer())])
        def read() -> None: ...

        assert statuses(app.openapi(), "get", "/") & {401, 403} == expected

    def test_every_error_is_a_problem_with_an_example_that_is_one(
        self, openapi: dict[str, Any]
    ) -> None:
        answers = openapi["components"]["responses"].values()
        assert answers
        for answer in answers:
            [(media_type, content)] = answer["content"].items()
            assert media_type == problems.MEDIA_TYPE
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            problems.Problem.model_validate(content["example"])

    def test_every_reference_leads_somewhere(self, openapi: dict[str, Any]) -> None:
        for reference in re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(openapi)):
            place: Any = openapi
            for part in reference.split("/"):
                place = place[part]
            assert place

    def test_holds_no_component_that_nothing_refers_to(self, openapi: dict[str, Any]) -> None:
        text = json.dumps(openapi)
        for kind, components in openapi["components"].items():
            for name in components if kind != "securitySchemes" else ():
                assert f'"#/components/{kind}/{name}"' in text

    def test_fastapis_own_error_is_gone(self, openapi: dict[str, Any]) -> None:
        assert not {"HTTPValidationError", "ValidationError"} & set(
            openapi["components"]["schemas"]
        )

    def test_a_model_of_the_service_named_validation_error_stays(self) -> None:
        class ValidationError(BaseModel):
            text: str

        app = FastAPI()
        problems.document(app)

        @app.get("/")
        def read() -> ValidationError:
            return ValidationError(text="")

        assert "ValidationError" in app.openapi()["components"]["schemas"]

    def test_what_a_route_says_wins_and_lacks_no_content(self, openapi: dict[str, Any]) -> None:
        answers = openapi["paths"]["/agents/{agent_id}"]["delete"]["responses"]

        assert answers["409"]["description"] == "The agent is running"
        assert problems.MEDIA_TYPE in answers["409"]["content"]
        assert answers["422"]["content"] == {"application/*": {}}
        assert answers["5XX"] == {"description": "Broken"}

    def test_tags_and_hidden_routes_stay_as_they_are(self, openapi: dict[str, Any]) -> None:
        assert openapi["tags"] == [{"name": "agents", "description": "All agents"}]
        assert "/agents/hidden" not in openapi["paths"]

    def test_is_made_once_and_again_when_a_route_comes(self) -> None:
        app = documented_application()
        first = app.openapi()
        assert app.openapi() is first

        app.add_api_route("/late/{number}", raising(NotFound()))
        assert 404 in statuses(app.openapi(), "get", "/late/{number}")

    def test_an_application_without_routes_has_one_too(self) -> None:
        app = FastAPI()
        problems.document(app)

        assert app.openapi()["paths"] == {}

    @pytest.mark.parametrize("kind", ["documented", "negative control"])
    def test_answers_are_what_it_says(self, kind: str) -> None:
        """Schemathesis sends good and bad requests and compares the answers with the document."""
        app = documented_application()
        if kind == "negative control":
            del app.openapi
        schema = schemathesis.openapi.from_asgi("/openapi.json", app)
        checks = [
            conformance.status_code_conformance,
            conformance.content_type_conformance,
            conformance.response_schema_conformance,
            conformance.response_headers_conformance,
        ]
        faults: list[Exception] = []
        seen: set[int] = set()

        for result in schema.get_all_operations():
            operation = result.ok()
            cases = st.one_of(
                operation.as_strategy(generation_mode=mode) for mode in GenerationMode
            )

            @settings(
                max_examples=25,
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                derandomize=True,
            )
            @given(case=cases)
            def probe(case: Any) -> None:
                response = case.call()
                seen.add(response.status_code)
                try:
                    case.validate_response(response, checks=checks)
                except FailureGroup as group:
                    faults.extend(group.exceptions)

            probe()

        assert {200, 422} <= seen
        assert bool(faults) is (kind == "negative control"), faults
