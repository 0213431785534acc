"""Errors as RFC 9457 problems: what went wrong, where, what to do, under one content type."""

import logging
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from graph import AtlasError, ComparisonNotFound, StoreUnavailable, TopicNotFound
from service import NothingCompared, user_message

LOG = logging.getLogger("genatlas.api")
MEDIA_TYPE = "application/problem+json"
NOT_FOUND = (TopicNotFound, ComparisonNotFound, NothingCompared)


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
    def told(request: Request, error: AtlasError) -> JSONResponse:
        nearest = getattr(error, "nearest", ())
        return problem(request, _status_of(error), str(error), tuple(nearest))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        wrong = [f"{'.'.join(map(str, each['loc'][1:])) or each['loc'][0]}: {each['msg']}" for each in error.errors()]
        return problem(request, 422, "; ".join(wrong))

    @app.exception_handler(HTTPException)
    def refused(request: Request, error: HTTPException) -> JSONResponse:
        response = problem(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    _ = told, invalid, refused  # the app holds them


def fault(request: Request, error: Exception) -> JSONResponse:
    """An error that no handler knows as a problem: the demo library's in words, a bug of ours as such, and logged."""
    message = user_message(error)
    if message is not None:
        return problem(request, 404 if type(error).__name__ == "DemoNotFound" else 400, message)
    LOG.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return problem(request, 500, "A fault of the service, which its log has in full.")


def _status_of(error: AtlasError) -> int:
    if isinstance(error, NOT_FOUND):
        return 404
    return 503 if isinstance(error, StoreUnavailable) else 400
