"""What goes wrong, in the shape in which OpenAI's API says it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from reasonedit.errors import (
    ConflictError,
    InputError,
    LockedError,
    NotFoundError,
    ReasonEditError,
    UnavailableError,
)

_log = logging.getLogger(__name__)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    415: "invalid_request_error",
    429: "rate_limit_error",
}
"""OpenAI's names of what went wrong, by status."""


class ApiError(Exception):
    """Something that a client is told.

    Args:
        status: The HTTP status.
        message: One line.
        code: OpenAI's code, or one like them.
        param: The field of the request that is to blame.
        headers: More headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param
        self.headers = dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """What the client is sent."""
        kind = _TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def as_api_error(error: Exception, request_id: str = "") -> ApiError:
    """What a client is told of an error; what it need not know is logged.

    Args:
        error: The error.
        request_id: The request in which it came up.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, InputError):
        return ApiError(400, str(error), "invalid_value")
    if isinstance(error, NotFoundError):
        return ApiError(404, str(error), "not_found")
    if isinstance(error, LockedError):
        return ApiError(503, str(error), "locked", headers={"Retry-After": "1"})
    if isinstance(error, ConflictError):
        return ApiError(409, str(error), "conflict")
    if isinstance(error, UnavailableError):
        return ApiError(503, str(error), "unavailable")
    if isinstance(error, ReasonEditError):  # the codebook is damaged, or the model's numbers are
        _log.error("Request %s: %s", request_id, error)
        return ApiError(500, str(error), "internal")
    if _is_out_of_memory(error):
        _log.error("Request %s: the memory did not suffice.", request_id)
        return ApiError(503, "The memory did not suffice: send a smaller picture, or try again.", "out_of_memory")
    _log.error("Request %s: %s", request_id, type(error).__name__, exc_info=error)
    return ApiError(500, f"Something went wrong here; the server's log says more (request {request_id}).", "internal")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
