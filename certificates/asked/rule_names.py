"""The names in a router's rule: what certificates are to be for, when its labels do not say.

Hosts behind a `!` are those that the rule does not match; they are left out. The rule is read as far as this needs:
whether it is right as a whole, the gateway says.

Pure: text in, names out.
"""

import re

TOKEN = re.compile(
    r"(?P<sign>[!()]|&&|\|\||,)|(?P<word>[A-Za-z]+)|`(?P<quoted>[^`]*)`|\"(?P<double>[^\"]*)\"|(?P<other>.)"
)
HOSTS = ("host", "hostsni")


def hosts_of(rule: str) -> list[str]:
    """The names that `Host` and `HostSNI` ask for, in lower case, in the order of the rule, each once."""
    found: dict[str, None] = {}
    negated = [False]
    is_negated, matcher = False, ""
    for token in TOKEN.finditer(rule):
        sign, word = token["sign"], token["word"]
        if sign == "!":
            is_negated = not is_negated
        elif sign == "(":
            negated.append(negated[-1] != is_negated)
            is_negated = False
        elif sign == ")":
            if len(negated) > 1:
                negated.pop()
            matcher = ""
        elif word:
            matcher = word.lower()
        elif token["other"] is None and sign is None and matcher in HOSTS and not negated[-1]:
            name = token["quoted"] if token["quoted"] is not None else token["double"]
            found[name.strip().lower().rstrip(".")] = None
        elif sign in ("&&", "||"):
            is_negated = False
    return list(found)
