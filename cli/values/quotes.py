"""Text in messages, quoted as Go's `%q` quotes it: in one line, whatever is in it.

Pure: text to text.
"""

SHORT = {"\a": "a", "\b": "b", "\f": "f", "\n": "n", "\r": "r", "\t": "t", "\v": "v", '"': '"', "\\": "\\"}


def quoted(text: str) -> str:
    return '"' + "".join(_one(character) for character in text) + '"'


def _one(character: str) -> str:
    if character in SHORT:
        return "\\" + SHORT[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # how Python has a byte of the command line that is not UTF-8
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
