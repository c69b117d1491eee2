"""The route table on disk: what was saved is found again, whole and changes, also after a torn write."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from essaim.agent.keepers import route_file
from essaim.agent.keepers.route_file import RouteFile
from essaim.cluster.route_delta import RouteDelta, changed_services, make_delta
from essaim.cluster.routes import RouteService, RouteTable


def table(version: int, *names: str) -> RouteTable:
    return RouteTable(version=version, services=[RouteService(id=name, name=name) for name in sorted(names)])


def delta(old: RouteTable, new: RouteTable) -> RouteDelta:
    return make_delta(old.version, changed_services(old, new), False, new)


sets = st.sets(st.sampled_from("abcd"))


@given(st.lists(st.tuples(sets, st.sampled_from(["whole", "changes", "two changes", "restart"])), min_size=1))
def test_route_file_finds_the_last_saved_table(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[str], str]]
) -> None:
    path = tmp_path_factory.mktemp("routes") / "agent" / "routes.msgpack"
    file, last = RouteFile(path), table(0)
    file.save(last, [])
    for number, (names, how) in enumerate(steps, 1):
        new = table(2 * number, *names)
        if how == "two changes":
            between = table(2 * number - 1, "x")
            file.save(new, [delta(last, between), delta(between, new)])
        else:
            file = RouteFile(path) if how == "restart" else file
            file.save(new, [] if how == "whole" else [delta(last, new)])
        last = new
        assert RouteFile(path).load() == last


def test_route_file_with_a_torn_end_is_read_up_to_there(tmp_path: Path) -> None:
    file = RouteFile(tmp_path / "routes.msgpack")
    tables = [table(1, "a"), table(2, "a", "b"), table(3, "c")]
    file.save(tables[0], [])
    file.save(tables[1], [delta(tables[0], tables[1])])
    whole = (tmp_path / "routes.changes").read_bytes()
    file.save(tables[2], [delta(tables[1], tables[2])])
    data = (tmp_path / "routes.changes").read_bytes()
    for end in range(len(data) + 1):
        (tmp_path / "routes.changes").write_bytes(data[:end])
        complete = (end >= len(whole)) + (end == len(data))
        assert RouteFile(tmp_path / "routes.msgpack").load() == tables[complete]


def test_route_file_skips_changes_older_than_the_whole(tmp_path: Path) -> None:
    """The daemon was killed between writing the whole anew and removing the changes."""
    file = RouteFile(tmp_path / "routes.msgpack")
    old, new = table(1, "a"), table(2, "b")
    file.save(old, [])
    file.save(new, [delta(old, new)])
    changes = (tmp_path / "routes.changes").read_bytes()
    newest = table(3, "c")
    file.save(newest, [])
    (tmp_path / "routes.changes").write_bytes(changes)
    assert RouteFile(tmp_path / "routes.msgpack").load() == newest


def test_route_file_folds_changes_in_before_they_outgrow_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(route_file, "SMALL", 200)
    file, last = RouteFile(tmp_path / "routes.msgpack"), table(0)
    file.save(last, [])
    sizes = []
    for number in range(1, 40):
        new = table(number, f"s{number}")
        file.save(new, [delta(last, new)])
        last = new
        changes = tmp_path / "routes.changes"
        sizes.append(changes.stat().st_size if changes.exists() else 0)
        assert RouteFile(tmp_path / "routes.msgpack").load() == last
    assert max(sizes) <= 200
    assert 0 in sizes[1:]


def test_route_file_that_is_missing_or_broken_is_no_table(tmp_path: Path) -> None:
    assert RouteFile(tmp_path / "routes.msgpack").load() is None
    (tmp_path / "routes.msgpack").write_bytes(b"\xc1broken")
    assert RouteFile(tmp_path / "routes.msgpack").load() is None
