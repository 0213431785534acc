"""Errors as RFC 9457 problems: what went wrong, where, what to do, under one content type."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from api.access import Refused
from graph import AtlasError, ComparisonNotFound, StoreUnavailable, TopicNotFound
from service import NothingCompared, user_message
from service.keys import KeysUnavailable
from service.runs import RETRY_S, QueueFull, RunUnknown
from study import ProfileExists, ProfileUnknown, ProgressUnavailable

LOG = logging.getLogger("genatlas.api")
MEDIA_TYPE = "application/problem+json"
STATUS: dict[type[AtlasError], int] = {
    TopicNotFound: 404,
    ComparisonNotFound: 404,
    NothingCompared: 404,
    ProfileUnknown: 404,
    RunUnknown: 404,
    ProfileExists: 409,
    QueueFull: 429,
    StoreUnavailable: 503,
    ProgressUnavailable: 503,
    KeysUnavailable: 503,
}
"""What is not listed is 400: refused, with the reason."""
DEMO_STATUS = {"DemoNotFound": 404, "BadParams": 422}
"""By name, since the demo library is loaded only where it is asked for something."""


class Problem(BaseModel):
    """What went wrong (RFC 9457)."""

    type: str = Field("about:blank", description="The kind of problem; the title says it")
    title: str = Field(description="The kind of problem in words", examples=["Not Found"])
    status: int = Field(description="The HTTP status", examples=[404])
    detail: str = Field(description="What went wrong here, and what to do", examples=['No topic "elbow".'])
    instance: str = Field(description="The request", examples=["/v1/topics/elbow"])
    nearest: list[str] = Field(default=[], description="Ids that read like one that was not found, best first")


def problem(request: Request, status: int, detail: str, nearest: tuple[str, ...] = ()) -> JSONResponse:
    """A problem as a response."""
    told = Problem(
        type="about:blank",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=request.url.path,
        nearest=list(nearest),
    )
    return JSONResponse(told.model_dump(), status, media_type=MEDIA_TYPE)


def register(app: FastAPI) -> None:
    """Have the app tell every error as a problem."""

    @app.exception_handler(AtlasError)
    def refused_by_us(request: Request, error: AtlasError) -> JSONResponse:
        return told(request, error)

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [f"{'.'.join(map(str, each['loc'][1:])) or each['loc'][0]}: {each['msg']}" for each in error.errors()]
        return problem(request, 422, "; ".join(wrong))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        response = problem(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    _ = refused_by_us, invalid, refused  # the app holds them


def fault(request: Request, error: Exception) -> JSONResponse:
    """An error that no handler knows as a problem: the demo library's in words, a bug of ours as such, and logged."""
    message = user_message(error)
    if message is not None:
        nearest = tuple(getattr(error, "nearest", ()))
        return problem(request, DEMO_STATUS.get(type(error).__name__, 400), message, nearest)
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(request, 500, "A fault of the service, which its log has in full.")


def told(request: Request, error: AtlasError) -> JSONResponse:
    """An error of ours as a problem, with the headers that say how to go on."""
    status = error.status if isinstance(error, Refused) else _status_of(error)
    response = problem(request, status, str(error), tuple(getattr(error, "nearest", ())))
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    wait = error.wait_s if isinstance(error, Refused) else RETRY_S if isinstance(error, QueueFull) else None
    if wait is not None:
        response.headers["Retry-After"] = str(wait)
    return response


def _status_of(error: AtlasError) -> int:
    return next((status for kind, status in STATUS.items() if isinstance(error, kind)), 400)
