"""Health verdicts that the gateways share: what each found by its part of the checks, merged to one for each endpoint.

- An endpoint is down when more than half of those that check it find it so. One gateway that cannot reach it goes by
  its own finding and does not take it from the others; between two that disagree, those who do not look believe the
  better news: a connection that fails makes them look themselves.
- Soft state, never in the log: it lives with the leadership and is told anew by every session. A gateway that is gone
  has no say; an endpoint that nobody tells of is unknown, and the gateways look for themselves.
- A node that is muted (its gateway serves nothing) has no say, until it is not any more.
- A verdict that changes only its reason or its finder is not told again while the finder stands by it.

Pure: words of gateways in, messages out.
"""

from collections.abc import Iterable

from essaim.cluster.wire import Findings, Verdicts

Merged = tuple[str, str]
"""The id of the node whose gateway found it, and the reason why it is down, or "" when it is up."""


def merge(words: dict[str, str]) -> Merged | None:
    """One verdict out of what each node says; None of none. The first node that says so counts as its finder."""
    down = [node for node, reason in words.items() if reason]
    is_down = len(down) * 2 > len(words)
    finders = sorted(down if is_down else words.keys() - down)
    return (finders[0], words[finders[0]]) if finders else None


def _stands(before: Merged, merged: Merged, words: dict[str, str]) -> bool:
    """Whether the verdict is as before, and its finder still says so."""
    finder, reason = before
    return finder in words and bool(reason) == bool(words[finder]) == bool(merged[1])


class SharedVerdicts:
    def __init__(self) -> None:
        self._by_node: dict[str, set[str]] = {}
        self._words: dict[str, dict[str, str]] = {}
        self._merged: dict[str, Merged] = {}
        self._muted: set[str] = set()

    def mute(self, node_id: str, muted: bool) -> Verdicts | None:
        """What changes for everybody by a node's word counting no more, or counting again."""
        if muted == (node_id in self._muted):
            return None
        (self._muted.add if muted else self._muted.discard)(node_id)
        return self._settle(self._by_node.get(node_id, ()))

    def told(self, node_id: str, word: Findings) -> Verdicts | None:
        """What changes for everybody by a gateway's word, if anything does."""
        known = self._by_node.setdefault(node_id, set())
        dropped = known - word.found.keys() if word.full else known.intersection(word.dropped)
        for key in dropped:
            del self._words[key][node_id]
        for key, reason in word.found.items():
            self._words.setdefault(key, {})[node_id] = reason
        known.difference_update(dropped)
        known.update(word.found)
        return self._settle(dropped | word.found.keys())

    def disconnect(self, node_id: str) -> Verdicts | None:
        """The node's session has ended."""
        changes = self.told(node_id, Findings(full=True))
        del self._by_node[node_id]
        return changes

    def full(self) -> Verdicts:
        """Everything, for a new session."""
        return self._message(True, self._merged)

    def _settle(self, keys: Iterable[str]) -> Verdicts | None:
        turned: list[str] = []
        for key in keys:
            before = self._merged.get(key)
            words = {node: word for node, word in self._words.get(key, {}).items() if node not in self._muted}
            merged = merge(words)
            if not self._words.get(key):
                self._words.pop(key, None)
            if merged is None:
                self._merged.pop(key, None)
            elif before is None or not _stands(before, merged, words):
                self._merged[key] = merged
            if self._merged.get(key) != before:
                turned.append(key)
        return self._message(False, sorted(turned)) if turned else None

    def _message(self, full: bool, keys: Iterable[str]) -> Verdicts:
        found: dict[str, dict[str, str]] = {}
        unknown: list[str] = []
        for key in keys:
            merged = self._merged.get(key)
            if merged is None:
                unknown.append(key)
            else:
                found.setdefault(merged[0], {})[key] = merged[1]
        return Verdicts(full, found, unknown)
