"""``newel.problems``: every error answer is a problem that tells no more than it must."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import pytest
from fastapi import (
    Depends,
    FastAPI,
    HTTPException,
)
from fastapi import WebSocket as FastAPIWebSocket
from fastapi.testclient import TestClient
from sample_routes import CANARY, answer_to, application, problem_of, raising
from sqlalchemy import exc as sqlalchemy_exc
from sqlalchemy.orm.exc import StaleDataError
from starlette.testclient import WebSocketDenialResponse
from starlette.types import Message
from starlette.websockets import WebSocketDisconnect
from structlog.testing import capture_logs

from newel import context, problems
from newel.errors import (
    AppError,
    BadRequest,
    ConfigurationError,
    Conflict,
    Duplicate,
    FieldError,
    Forbidden,
    GatewayTimeout,
    Invalid,
    NotFound,
    PreconditionFailed,
    PreconditionRequired,
    StaleVersion,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UpstreamError,
)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(application(), raise_server_exceptions=False) as client:
        yield client


class TestOwnErrors:
    @pytest.mark.parametrize(
        "error",
        [
            *(Invalid(), BadRequest(), Unauthorized(), Forbidden(), NotFound(), Conflict()),
            *(Duplicate("user", "email"), StaleVersion(), PreconditionFailed()),
            *(PreconditionRequired(), TooManyRequests(retry_after_seconds=3)),
            *(UpstreamError("billing"), GatewayTimeout("billing"), Unavailable()),
        ],
        ids=lambda error: error.code,
    )
    def test_are_answered_with_their_own_words(self, error: AppError) -> None:
        response = answer_to(error)

        body = problem_of(response)
        assert response.status_code == error.status
        assert (body["error"], body["title"]) == (error.code, error.title)
        assert body["detail"] == error.detail
        for name, value in error.headers.items():
            assert response.headers[name] == value

    def test_carry_their_own_members(self) -> None:
        body = problem_of(answer_to(Duplicate("user", "email")))

        assert (body["resource"], body["field"]) == ("user", "email")
        assert body["errors"] == [
            {
                "pointer": "#/email",
                "code": "duplicate",
                "message": "Another user has this email already.",
            }
        ]

    def test_may_not_overwrite_what_every_problem_says(self) -> None:
        body = problem_of(answer_to(Conflict(type="x", status=200, request_id="x", note="y")))

        assert (body["status"], body["request_id"], body["note"]) == (409, None, "y")

    @pytest.mark.parametrize(
        "member",
        [
            float("nan"),
            object(),
            {1, 2},
            UUID(int=1),
            datetime(2026, 1, 1, tzinfo=UTC),
            "\ud800",
            b"\xff",
        ],
        ids=lambda member: type(member).__name__,
    )
    def test_never_fail_over_a_member_that_json_cannot_hold(self, member: object) -> None:
        assert problem_of(answer_to(Conflict(odd=member)))["status"] == 409

    def test_never_fail_over_half_a_surrogate_pair(self) -> None:
        error = Invalid("\ud800", errors=[FieldError(pointer="#", code="c", message="\udfff")])

        assert problem_of(answer_to(error))["detail"] == "?"

    def test_name_a_bounded_number_of_fields(self) -> None:
        fields = [FieldError(pointer=f"#/{i}", code="c", message="m") for i in range(1000)]

        assert len(problem_of(answer_to(Invalid(errors=fields)))["errors"]) == 50

    @pytest.mark.parametrize(
        "error",
        [AppError(CANARY, key=CANARY), ConfigurationError(CANARY, fix=CANARY)],
        ids=["AppError", "ConfigurationError"],
    )
    def test_with_status_500_show_their_code_alone_and_are_logged(self, error: AppError) -> None:
        with capture_logs() as logs:
            body = problem_of(answer_to(error))

        assert body["error"] == error.code
        assert body["detail"] == AppError.advice
        assert [line["exc_info"] for line in logs if line["log_level"] == "error"] == [error]

    def test_send_their_cause_to_the_log_in_a_line_and_not_to_the_client(self) -> None:
        error = NotFound("agent")
        error.__cause__ = KeyError(CANARY + 10_000 * "x")
        with capture_logs() as logs:
            body = problem_of(answer_to(error))

        [line] = logs
        assert (line["event"], line["error"]) == ("request_refused", "not_found")
        assert line["why"].startswith(f"KeyError('{CANARY}")
        assert len(json.dumps(line)) < 1_000, "whoever asks decides how often it is written"
        assert CANARY not in json.dumps(body)

    def test_of_a_dependency_are_logged_as_errors_with_their_cause(self) -> None:
        error = UpstreamError("billing")
        error.__cause__ = ConnectionError(CANARY)
        with capture_logs() as logs:
            problem_of(answer_to(error))

        assert [(line["log_level"], line["exc_info"]) for line in logs] == [("error", error)]

    @pytest.mark.parametrize("error", [NotFound("agent"), Unavailable()], ids=["404", "503"])
    def test_without_a_cause_write_no_line_of_their_own(self, error: AppError) -> None:
        with capture_logs() as logs:
            answer_to(error)

        assert logs == []

    def test_say_the_request_id(self) -> None:
        token = context.request_id.set("a-request-id")
        try:
            response = problems.problem_response(NotFound(), instance="/")
        finally:
            context.request_id.reset(token)

        assert json.loads(bytes(response.body))["request_id"] == "a-request-id"

    def test_name_the_path_without_the_query_quoted_and_bounded(self, client: TestClient) -> None:
        body = problem_of(client.get(f"/no%0Awhere?token={CANARY}"))
        assert body["instance"] == "/no%0Awhere"

        assert len(problem_of(client.get("/" + "a" * 5000))["instance"]) == 1024

    def test_of_a_task_group_are_answered_as_the_first_one(self) -> None:
        group = ExceptionGroup("tasks", [ExceptionGroup("inner", [NotFound("agent")]), Conflict()])

        assert answer_to(group).status_code == 404

    @pytest.mark.parametrize("group", [[NotFound(), ValueError(CANARY)], [ValueError(CANARY)]])
    def test_do_not_hide_an_unexpected_error_of_a_task_group(self, group: list[Exception]) -> None:
        assert problem_of(answer_to(ExceptionGroup(CANARY, group)))["error"] == "server_error"


class TestOthersErrors:
    def test_unexpected_ones_are_500_without_their_text(self) -> None:
        assert problem_of(answer_to(RuntimeError(CANARY)))["error"] == "server_error"

    def test_a_stale_row_is_409(self) -> None:
        assert problem_of(answer_to(StaleDataError(CANARY)))["error"] == "stale_version"

    def test_an_exhausted_pool_is_503_with_retry_after(self) -> None:
        with capture_logs() as logs:
            response = answer_to(sqlalchemy_exc.TimeoutError(CANARY))

        assert problem_of(response)["error"] == "unavailable"
        assert response.headers["retry-after"] == "2"
        assert logs[0]["event"] == "database_pool_exhausted"

    def test_an_answer_that_breaks_its_model_is_500_and_the_log_has_no_data(
        self, client: TestClient
    ) -> None:
        with capture_logs() as logs:
            body = problem_of(client.get("/broken-answer"))

        assert body["error"] == "server_error"
        [line] = logs
        assert line["endpoint"] == "GET /broken-answer"
        assert line["faults"] == [{"loc": ("response", "text"), "type": "missing"}]
        assert CANARY not in repr(line)

    def test_an_encoding_error_of_another_kind_is_500(self) -> None:
        error = UnicodeEncodeError("ascii", CANARY, 0, 1, "ordinal not in range(128)")

        assert problem_of(answer_to(error))["status"] == 500

    @pytest.mark.parametrize(
        ("error", "code", "detail"),
        [
            (HTTPException(404), "not_found", NotFound.advice),
            (HTTPException(403, "Ask Anna."), "forbidden", "Ask Anna."),
            (HTTPException(418, "No coffee."), "im_a_teapot", "No coffee."),
            (HTTPException(451), "unavailable_for_legal_reasons", None),
            (HTTPException(599), "status_599", "Status 599."),
            (HTTPException(500, CANARY), "server_error", AppError.advice),
            (HTTPException(500, {"key": CANARY}), "server_error", AppError.advice),
            (HTTPException(409, ["a"]), "conflict", Conflict.advice),
        ],
        ids=str,
    )
    def test_http_exceptions_are_problems(
        self, error: HTTPException, code: str, detail: str | None
    ) -> None:
        body = problem_of(answer_to(error))

        assert body["error"] == code
        assert body["detail"] == detail or detail is None

    def test_the_members_of_an_http_exceptions_detail_are_kept(self) -> None:
        body = problem_of(answer_to(HTTPException(409, {"holder": "anna", "status": 1})))

        assert (body["holder"], body["status"]) == ("anna", 409)

    @pytest.mark.parametrize("status", [204, 304])
    def test_an_http_exception_without_a_body_stays_without(self, status: int) -> None:
        response = answer_to(HTTPException(status, headers={"X-Note": "kept"}))

        assert (response.status_code, response.content) == (status, b"")
        assert response.headers["x-note"] == "kept"

    def test_401_and_503_always_say_how_to_go_on(self) -> None:
        assert answer_to(HTTPException(401)).headers["www-authenticate"] == "Bearer"
        assert answer_to(HTTPException(503)).headers["retry-after"] == "2"

        own = answer_to(HTTPException(401, headers={"WWW-Authenticate": "Basic"}))
        assert own.headers.get_list("www-authenticate") == ["Basic"]

    def test_an_unknown_path_is_404(self, client: TestClient) -> None:
        assert problem_of(client.get("/nowhere"))["error"] == "not_found"

    def test_another_method_is_405_with_every_method_of_the_path(self, client: TestClient) -> None:
        response = client.put(f"/agents/{UUID(int=1)}")

        assert problem_of(response)["error"] == "method_not_allowed"
        assert response.headers["allow"] == "DELETE, GET"

    def test_405_sees_through_the_prefixes_of_included_routers(self) -> None:
        inner, outer = application(), FastAPI()
        problems.install(outer)
        outer.include_router(inner.router, prefix="/api/v1")
        with TestClient(outer, root_path="/behind") as client:
            # A server puts its root path in front; a proxy may have taken it off.
            for path in ("/behind/api/v1/agents", "/api/v1/agents"):
                response = client.patch(f"{path}/{UUID(int=1)}")
                assert response.headers["allow"] == "DELETE, GET"

    def test_405_of_a_mounted_application_keeps_what_starlette_says(self) -> None:
        app = FastAPI()
        app.mount("/inner", application())
        with TestClient(app) as client:
            response = client.put("/inner/login")

        assert (response.status_code, response.headers["allow"]) == (405, "POST")


class TestWebsockets:
    @pytest.fixture
    def client(self) -> Iterator[TestClient]:
        app = FastAPI()
        problems.install(app)
        errors = {
            "401": Unauthorized(),
            "403": Forbidden(),
            "404": NotFound("room"),
            "409": Conflict(),
            "422": Invalid(),
            "429": TooManyRequests(retry_after_seconds=3),
            "503": Unavailable(),
            "http": HTTPException(403, "No."),
            "stale": StaleDataError(CANARY),
        }

        def chosen(name: str) -> Exception:
            return errors[name]

        @app.websocket("/early/{name}")
        async def early(error: Annotated[Exception, Depends(chosen)]) -> None:
            raise error

        @app.websocket("/late/{name}")
        async def late(
            websocket: FastAPIWebSocket, error: Annotated[Exception, Depends(chosen)]
        ) -> None:
            await websocket.accept()
            raise error

        @app.websocket("/closed")
        async def closed(websocket: FastAPIWebSocket) -> None:
            await websocket.accept()
            await websocket.close(1000)
            raise NotFound("room")

        @app.websocket("/typed/{number}")
        async def typed(websocket: FastAPIWebSocket, number: int) -> None:
            await websocket.accept()

        with TestClient(app) as client:
            yield client

    CODES = pytest.mark.parametrize(
        ("name", "status", "code"),
        [
            *[(str(s), s, 4000 + s) for s in (401, 403, 404, 409, 422, 429)],
            *[("503", 503, 1011), ("http", 403, 4403), ("stale", 409, 4409)],
        ],
    )

    @CODES
    def test_before_accept_the_handshake_is_answered_with_the_problem(
        self, client: TestClient, name: str, status: int, code: int
    ) -> None:
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect(f"/early/{name}"),
        ):
            pass

        assert problem_of(denied.value)["status"] == status

    @CODES
    def test_after_accept_the_websocket_is_closed_with_its_code(
        self, client: TestClient, name: str, status: int, code: int
    ) -> None:
        with (
            client.websocket_connect(f"/late/{name}") as websocket,
            pytest.raises(WebSocketDisconnect) as closed,
        ):
            websocket.receive_text()

        assert closed.value.code == code
        assert closed.value.reason
        assert CANARY not in closed.value.reason

    def test_refused_parameters_are_422(self, client: TestClient) -> None:
        with (
            pytest.raises(WebSocketDenialResponse) as denied,
            client.websocket_connect("/typed/x"),
        ):
            pass

        assert problem_of(denied.value)["errors"][0]["pointer"] == "path/number"

    def test_a_closed_websocket_is_left_alone(self, client: TestClient) -> None:
        with (
            client.websocket_connect("/closed") as websocket,
            pytest.raises(WebSocketDisconnect) as closed,
        ):
            websocket.receive_text()

        assert closed.value.code == 1000

    @pytest.mark.anyio
    async def test_a_server_that_cannot_answer_a_handshake_closes_it(self) -> None:
        app = FastAPI()
        problems.install(app)
        app.add_api_websocket_route("/", raising(Unauthorized()))
        sent: list[Message] = []
        scope = {
            "type": "websocket",
            "path": "/",
            "query_string": b"",
            "root_path": "",
            "headers": [],
            "subprotocols": [],
        }

        async def receive() -> Message:
            return {"type": "websocket.connect"}

        async def send(message: Message) -> None:
            sent.append(message)

        await app(scope, receive, send)

        assert sent == [{"type": "websocket.close", "code": 4401, "reason": "unauthorized"}]
