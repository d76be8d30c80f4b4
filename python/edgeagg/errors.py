"""Every error edgeagg raises on purpose.

EdgeaggError
├── ConfigError      somebody must change a file: names file, key, what was found, what is allowed
├── LinkError        nothing came back, or the port or connection is gone: try again
├── ProtocolError    the meter answered, but not with what was asked for
│   ├── FrameError       bytes came, no valid reply among them (carries .frame)
│   └── RefusedError     a Modbus exception reply (carries .code)
├── FormatError      bytes that are not a valid batch, receipt or catalogue
└── StoreError       the journal or the database cannot do what was asked
"""


class EdgeaggError(Exception):
    """Base of all errors below."""


class ConfigError(EdgeaggError):
    """A file that somebody must change."""

    def __init__(self, file: object, key: str, found: str, allowed: str) -> None:
        super().__init__(f"{file}: {key}: {found}; {allowed}")
        self.file, self.key, self.found, self.allowed = str(file), key, found, allowed


class LinkError(EdgeaggError):
    """No reply, or no link to get one over."""


class ProtocolError(EdgeaggError):
    """A reply that is not what was asked for."""


class FrameError(ProtocolError):
    """Bytes arrived, but no valid reply to the request among them."""

    def __init__(self, message: str, frame: bytes = b"") -> None:
        super().__init__(f"{message} (received {frame.hex(' ')})" if frame else message)
        self.frame = frame


class RefusedError(ProtocolError):
    """A valid Modbus exception reply."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class FormatError(EdgeaggError):
    """Bytes that are not a valid batch, receipt or catalogue."""


class StoreError(EdgeaggError):
    """The journal or the database refused."""
