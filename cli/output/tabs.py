"""Elastic tab stops, as Go's text/tabwriter aligns the docker CLI's tables.

A column is a run of consecutive lines that have a tab-terminated cell at the same place; its width is that of the
widest cell plus the padding. What follows a line's last tab belongs to no column and is not padded.

Pure: text in, text out.
"""

MIN_WIDTH = 10
PADDING = 3


def align(text: str, *, min_width: int = MIN_WIDTH, padding: int = PADDING) -> str:
    """Replace tabs by spaces so that columns line up."""
    lines = [line.split("\t") for line in text.split("\n")]
    out: list[list[str]] = [[] for _ in lines]
    expand(lines, out, 0, len(lines), min_width, padding)
    return "\n".join("".join(pieces) for pieces in out)


def expand(
    lines: list[list[str]], out: list[list[str]], first: int, last: int, min_width: int, padding: int, column: int = 0
) -> None:
    """Lay out `column` and what is right of it for the lines [first, last)."""
    index = first
    while index < last:
        if len(lines[index]) <= column + 1:
            if len(lines[index]) == column + 1:
                out[index].append(lines[index][column])
            index += 1
            continue
        end = index
        while end < last and len(lines[end]) > column + 1:
            end += 1
        width = block_width([lines[row][column] for row in range(index, end)], min_width, padding)
        for row in range(index, end):
            out[row].append(lines[row][column].ljust(width))
        expand(lines, out, index, end, min_width, padding, column + 1)
        index = end


def block_width(cells: list[str], min_width: int, padding: int) -> int:
    """An empty column has no width; Go discards those too when asked to, which the docker CLI does not."""
    return max(min_width, max(len(cell) for cell in cells) + padding)
