"""Errors that are the user's to mend."""

import os
from typing import Any


class ConfigError(ValueError):
    """A config file or an override that cannot be used; one line names the field."""


class DataError(ValueError):
    """A bad record, file or field. The message names it and says what to do; the pipeline may count and skip it."""


AGAIN = "Download or copy the file again."


class CheckpointError(ValueError):
    """A checkpoint that cannot be used. The message names the file, says what is wrong and what to do."""

    def __init__(self, path: Any, why: str, advice: str = AGAIN):
        super().__init__(f"{os.fspath(path)}: {why} {advice}")
        self.path = os.fspath(path)


class PlanError(ValueError):
    """The step cannot be planned; one line says why."""


# What a user can cause and mend: shown as one line, not as a traceback.
USER_ERRORS = (DataError, CheckpointError, ValueError, FloatingPointError, TimeoutError)
