"""Booleans as Go's strconv.ParseBool reads them, in flags and in labels.

Pure: text in, a boolean out.
"""

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse_bool(text: str) -> bool | None:
    """None for any other text."""
    return True if text in TRUE else False if text in FALSE else None
