"""Every error that Moodline raises on purpose, in one tree.

    MoodlineError                 what was wrong, where, and what to do
    ├── ConfigError               a setting is missing, malformed or unsafe
    ├── BusError                  Redis cannot be reached or answers nonsense
    ├── MediaError                the storage of videos cannot be reached, read or written
    ├── SourceError               a camera, stream, file or folder cannot be opened or read
    │   ├── SourceEnded           a source that has an end has reached it
    │   └── SourceRefused         only a person can help: no such file or webcam, a wrong password
    ├── ModelError                a model folder is missing, incomplete, or disagrees with its card
    ├── AddressRefused            a webhook's address is malformed, or lies where none may go
    ├── DeliveryFailed            an event did not reach its target
    ├── DataError                 training or evaluation data cannot be used
    ├── InvalidRecord             a value breaks the contract of a record in `shared.schema`
    ├── NotFound                  a feed, video or stored file that does not exist was named
    ├── Conflict                  the state of a thing does not allow what was asked of it
    └── LeaseLost                 a worker held a feed for too long; its results are void

The message is a sentence for the person who meets it: what was wrong, where, and what to do.
Nothing here is raised for a defect of Moodline itself: those stay Python's own exceptions.
"""


class MoodlineError(Exception):
    """Root of the tree; the command line prints it as one line and exits with 1."""


class ConfigError(MoodlineError):
    """A setting is missing, malformed or unsafe."""


class BusError(MoodlineError):
    """Redis cannot be reached or gave an answer that Moodline cannot use."""


class MediaError(MoodlineError):
    """The storage of videos cannot be reached, read or written; the message names it."""


class SourceError(MoodlineError):
    """A camera, stream, file or folder cannot be opened or read.

    `trouble` is the message's kind (`shared.schema.Trouble`), where it has one.
    """

    def __init__(self, message: str, trouble: str = "") -> None:
        super().__init__(message)
        self.trouble = trouble


class SourceEnded(SourceError):
    """A source that has an end has reached it."""


class SourceRefused(SourceError):
    """A source cannot be captured until somebody puts it right; waiting alone will not help."""


class ModelError(MoodlineError):
    """A model folder is missing, incomplete, or disagrees with its card."""


class AddressRefused(MoodlineError):
    """A webhook's address is malformed, or lies where webhooks must not go."""


class DeliveryFailed(MoodlineError):
    """An event did not reach its target; `for_good`: trying again would not help."""

    def __init__(self, reason: str, *, for_good: bool = False) -> None:
        super().__init__(reason)
        self.for_good = for_good


class DataError(MoodlineError):
    """Training or evaluation data cannot be used; the message names the file."""


class InvalidRecord(MoodlineError, ValueError):
    """A value breaks the contract of a record; the message holds expected and actual."""


class NotFound(MoodlineError):
    """A feed, video or stored file that does not exist was named."""


class Conflict(MoodlineError):
    """The state of a thing does not allow what was asked of it; the message says which would."""


class LeaseLost(MoodlineError):
    """A worker's claim on a feed ran out before it published; its results are void."""
