"""What can go wrong and is told in one sentence, without a traceback."""

import errno
import os
from collections.abc import Iterator


class DataError(ValueError):
    """Data that is absent, damaged or of another shape than the model takes; one clear sentence."""


class DivergedError(ArithmeticError):
    """The loss is no longer a number, and no further step will mend it."""


class DrawingError(ValueError):
    """Pictures that nothing is there for, or that have no place; the text says which."""


class ImportFileError(ValueError):
    """A file that does not hold this architecture's weights; the text says what differs."""


class MeasurementError(ValueError):
    """Checkpoints that cannot be measured on the same rows."""


class UnknownRecipeError(LookupError):
    """The architecture's package names no recipe."""


# On the CPU, on an accelerator, and for a library that finds no place as it is imported.
SHORTAGES = ("can't allocate memory: ", "out of memory", "failed to map segment")


def memory_shortage(error: BaseException | None) -> str | None:
    """What could not be had where a failure is one of memory, '' where it says nothing; else None.

    An exporter wraps what it meets, so the causes count as well.
    """
    for cause in _causes(error):
        text = " ".join(str(cause).split())
        if isinstance(cause, MemoryError) or any(words in text for words in SHORTAGES):
            return text.rpartition(SHORTAGES[0])[2].partition(". ")[0]
    return None


# Of a disk, whatever file was about to be written. safetensors has an error without a number.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def disk_failure(error: BaseException | None) -> str | None:
    """The system's words for a disk that is full or broken, where a failure comes of that."""
    for cause in _causes(error):
        for number in DISK_ERRORS:
            words = os.strerror(number)
            if words in str(cause) or (isinstance(cause, OSError) and cause.errno == number):
                return words
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, what it wraps, and so on."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
