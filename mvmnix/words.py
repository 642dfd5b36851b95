"""Words of a command, a list that no shell reads; no I/O."""

type Words = list[str] | tuple[str, ...]


def check_words(value: object) -> tuple[str, ...]:
    """Return the words as a tuple. Raises TypeError, which quotes none of them, for all but a list or tuple of str.

    >>> check_words("ls -l")
    Traceback (most recent call last):
    TypeError: words are a list, such as ["ls", "-l"], or ["sh", "-c", "ls -l"] for a shell; this is a str
    """
    if not isinstance(value, list | tuple):
        how = 'words are a list, such as ["ls", "-l"], or ["sh", "-c", "ls -l"] for a shell'
        raise TypeError(f"{how}; this is a {type(value).__name__}")
    words = tuple(word for word in value if isinstance(word, str))
    if len(words) != len(value):
        raise TypeError("each word is a str, and one of these isn't")
    return words
