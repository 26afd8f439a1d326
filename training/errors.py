"""Errors that the command line reports in one sentence, without a traceback."""

import errno
import os
from collections.abc import Iterator


class DataError(ValueError):
    """The data is missing, damaged or does not fit the model."""


class DivergedError(ArithmeticError):
    """The loss is NaN or infinite. Further steps would not change that."""


class DrawingError(ValueError):
    """There is nothing to draw, or no place for the plots. The message says which."""


class ImportFileError(ValueError):
    """The file does not hold the architecture's weights. The message says what differs."""


class MeasurementError(ValueError):
    """The checkpoints cannot be measured on the same rows."""


class UnknownRecipeError(LookupError):
    """No package registers a recipe for the architecture."""


# Messages of the CPU's allocator, of an accelerator's, and of a failed import of a library.
SHORTAGES = ("can't allocate memory: ", "out of memory", "failed to map segment")


def memory_shortage(error: BaseException | None) -> str | None:
    """What could not be allocated if memory ran out, '' if the error does not say; else None.

    An error's causes count as well: the exporter wraps the errors it meets.
    """
    for cause in _causes(error):
        text = " ".join(str(cause).split())
        if isinstance(cause, MemoryError) or any(words in text for words in SHORTAGES):
            return text.rpartition(SHORTAGES[0])[2].partition(". ")[0]
    return None


# A full, read-only or broken disk. safetensors raises these without an errno.
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO)


def disk_failure(error: BaseException | None) -> str | None:
    """The system's message if the error comes from a full or broken disk, else None."""
    for cause in _causes(error):
        for number in DISK_ERRORS:
            words = os.strerror(number)
            if words in str(cause) or (isinstance(cause, OSError) and cause.errno == number):
                return words
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error, its cause, the cause of that and so on."""
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
