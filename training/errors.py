"""What can go wrong and is told in one sentence, without a traceback."""


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
    seen: set[int] = set()  # an error may be its own cause
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(words in text for words in SHORTAGES):
            return text.rpartition(SHORTAGES[0])[2].partition(". ")[0]
        error = error.__cause__ or error.__context__
    return None
