"""Keep off the terminal what native libraries write past Python.

TensorFlow tells of its build when it is imported, LiteRT of each delegate, the converter of its
settings: lines that no user can act on, between a progress bar and its figures, which no logger
and no setting holds back. Leaves errors alone: they come as exceptions.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

STANDARD_ERROR = 2


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Within it, nothing that is written to standard error appears. Not for threads at work."""
    sys.stderr.flush()
    kept = os.dup(STANDARD_ERROR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, STANDARD_ERROR)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, STANDARD_ERROR)
        os.close(nowhere)
        os.close(kept)
