"""How the pages' blocks and commands are found."""

import pytest

from .blocks import blocks, mentioned

PAGE = """# Title
See `essaim node
ls` and `essaimd --join`, not `other`.

```sh
# on the second host
FOO=1 sudo essaim service create \\
    --label 'a b' x   # a comment
echo "one
two" | essaim secret create s - && essaim lb render haproxy > file
```

```console
$ essaim node ls
ID
```
    ```
    text
    ```
"""


def test_blocks_are_found_with_their_commands() -> None:
    found = blocks("page.md", PAGE)
    assert [(block.line, block.info) for block in found] == [(5, "sh"), (13, "console"), (17, "")]
    assert found[0].commands() == [
        ["essaim", "service", "create", "--label", "a b", "x"],
        ["echo", "one\ntwo"],
        ["essaim", "secret", "create", "s", "-"],
        ["essaim", "lb", "render", "haproxy"],
    ]
    assert found[1].commands() == [["essaim", "node", "ls"]]
    assert found[2].commands() == []


def test_mentioned_commands_are_found_over_the_end_of_a_line() -> None:
    assert mentioned(PAGE) == ["essaim node ls", "essaimd --join"]


def test_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="does not end"):
        blocks("page.md", "```sh\nx\n")
    with pytest.raises(ValueError, match="quote does not end"):
        blocks("page.md", "```sh\necho 'x\n```\n")[0].commands()
