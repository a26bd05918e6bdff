"""Every error that lrengine raises on purpose."""


class LrengineError(Exception):
    """Base of all errors below."""


class InvalidRequestError(LrengineError, ValueError):
    """A request's options, ids or lengths are not usable; the engine stays usable."""


class ModelFileError(LrengineError, ValueError):
    """A file of a model directory or checkpoint is missing, malformed or contradicts another one."""


class UnsupportedModelError(LrengineError, ValueError):
    """The file is well-formed, but this version cannot run what it describes."""


class DataError(LrengineError, ValueError):
    """A training or evaluation file lacks what the config asks of it."""


class OutOfMemoryError(LrengineError, MemoryError):
    """Memory ran out; the engine stays usable with a smaller request."""


class DeviceError(LrengineError, RuntimeError):
    """The device, its driver or the backend library failed or is absent."""


class CancelledError(LrengineError, RuntimeError):
    """The request was cancelled."""
