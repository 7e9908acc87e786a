"""What can go wrong on the way to the origin, in one vocabulary (RFC 9209 §2.3)."""

from __future__ import annotations

from enum import StrEnum


class ErrorKind(StrEnum):
    """Proxy error types of RFC 9209 §2.3: what went wrong between edge and origin."""

    DESTINATION_UNAVAILABLE = "destination_unavailable"
    """The breaker is open: the origin failed several times in a row and is left alone for a moment."""
    DNS_ERROR = "dns_error"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_TERMINATED = "connection_terminated"
    CONNECTION_WRITE_TIMEOUT = "connection_write_timeout"
    CONNECTION_LIMIT_REACHED = "connection_limit_reached"
    """Every connection that this origin may have is in use, and so is the queue for them, or the wait was too long."""
    TLS_PROTOCOL_ERROR = "tls_protocol_error"
    TLS_CERTIFICATE_ERROR = "tls_certificate_error"
    HTTP_RESPONSE_TIMEOUT = "http_response_timeout"
    HTTP_RESPONSE_INCOMPLETE = "http_response_incomplete"
    HTTP_RESPONSE_HEADER_SECTION_SIZE = "http_response_header_section_size"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    PROXY_CONFIGURATION_ERROR = "proxy_configuration_error"


class OriginError(Exception):
    """The origin gave no usable response."""

    def __init__(self, kind: ErrorKind, target: str) -> None:
        super().__init__(f"{kind.value}: {target}")
        self.kind = kind
        self.target = target

    @property
    def reason(self) -> str:
        """The word for Cache-Status and the access log."""
        return self.kind.value


class EdgeKeyRefused(OriginError):
    """The origin does not take this edge for one of its own: nothing that it says is for the viewer."""

    def __init__(self, target: str) -> None:
        super().__init__(ErrorKind.PROXY_CONFIGURATION_ERROR, target)

    @property
    def reason(self) -> str:
        return "edge-key-refused"
