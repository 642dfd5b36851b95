"""Says how many there are of something, in the singular for one; pure, and below everything that has messages."""


def counted(number: int, one: str, many: str = "") -> str:
    """A number with a noun, and perhaps what follows it; `many` is `one` with an s at its end if it isn't given.

    >>> counted(1, "record"), counted(2, "record"), counted(0, "entry", "entries"), counted(1, "was", "were")
    ('1 record', '2 records', '0 entries', '1 was')
    """
    return f"{number} {one if number == 1 else many or one + 's'}"
