"""Addresses of tasks and services: none twice, late reuse, a reason when none is left."""

import ipaddress

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from essaim.cluster.objects import Network, NetworkSpec
from essaim.cluster.service import EndpointSpec, NetworkAttachmentConfig, Service, ServiceSpec, TaskSpec
from essaim.cluster.task import Task, TaskStatus
from essaim.scheduler.allocate.addresses import Book, virtual_ips, vxlan_id, with_vxlan_ids


def network(network_id: str, subnet: str = "10.0.1.0/29") -> Network:
    gateway = str(next(ipaddress.ip_network(subnet).hosts()))
    ipam = {"Config": [{"Subnet": subnet, "Gateway": gateway}]}
    return Network(id=network_id, spec=NetworkSpec(name=network_id, driver="overlay", ipam=ipam))


def task(task_id: str) -> Task:
    spec = TaskSpec(networks=[NetworkAttachmentConfig(target="n")])
    return Task(id=task_id, spec=spec, status=TaskStatus(state="pending"))


def attached(book: Book, task_id: str, *networks: Network) -> Task:
    found = book.attach(task(task_id), networks)
    assert isinstance(found, Task), found
    book.record(found)
    return found


def address(of: Task) -> str:
    return ((of.networks_attachments or [])[0].addresses or [])[0]


def in_state(of: Task, state: str) -> Task:
    return msgspec.structs.replace(of, status=TaskStatus(state=state))


def test_book_full_network_says_which() -> None:
    book, net = Book(), network("n")
    found = [address(attached(book, f"t{i}", net)) for i in range(5)]
    assert found == [f"10.0.1.{i}/29" for i in range(2, 7)]
    assert book.attach(task("more"), [net]) == "no free address is left on network n: give it a larger subnet"


def test_book_gives_only_what_the_networks_range_leaves() -> None:
    net = network("n", "10.0.1.0/24")
    (net.spec.ipam or {})["Config"][0] |= {"IPRange": "10.0.1.8/30", "AuxiliaryAddresses": {"router": "10.0.1.9"}}
    book = Book()
    assert [address(attached(book, f"t{i}", net)) for i in range(3)] == ["10.0.1.8/24", "10.0.1.10/24", "10.0.1.11/24"]
    assert isinstance(book.attach(task("more"), [net]), str)


def test_book_refused_on_one_network_takes_none_on_the_other() -> None:
    book, wide, full = Book(), network("w", "10.0.2.0/29"), network("f", "10.0.3.0/30")
    attached(book, "t0", full)
    for _ in range(20):
        assert isinstance(book.attach(task("t1"), [wide, full]), str)
    assert [address(attached(book, f"u{i}", wide)) for i in range(5)]


def test_book_freed_address_is_reused_last() -> None:
    book, net = Book(), network("n")
    first = attached(book, "t0", net)
    book.record(in_state(first, "shutdown"))
    others = [address(attached(book, f"u{i}", net)) for i in range(4)]
    assert address(first) not in others
    assert address(attached(book, "last", net)) == address(first)


def test_book_of_a_new_leader_reuses_freed_address_last() -> None:
    net, book = network("n"), Book()
    ended, other = in_state(attached(book, "t0", net), "failed"), attached(book, "t1", net)
    assert address(attached(Book([ended, other]), "t2", net)) not in (address(ended), address(other))


def test_book_orphaned_task_keeps_its_address() -> None:
    book, net = Book(), network("n", "10.0.3.0/30")
    lost = in_state(attached(book, "t0", net), "orphaned")
    book.record(lost)
    assert isinstance(book.attach(task("t1"), [net]), str)
    book.forget("t0")
    assert address(attached(book, "t2", net)) == address(lost)


def service(service_id: str, mode: str | None = None) -> Service:
    return Service(id=service_id, spec=ServiceSpec(name=service_id, endpoint_spec=EndpointSpec(mode=mode)))


def vips(of: Service) -> list[tuple[str | None, str | None]]:
    return [(v.network_id, v.addr) for v in virtual_ips(of)]


def test_book_endow_keeps_what_a_service_has_and_frees_what_it_left() -> None:
    book, one, two = Book(), network("one"), network("two", "10.0.2.0/29")
    web, lacking = book.endow(service("web"), [one])
    assert (vips(web), lacking) == ([("one", "10.0.1.2/29")], [])
    both, _ = book.endow(web, [two, one])
    assert vips(both) == [("two", "10.0.2.2/29"), ("one", "10.0.1.2/29")]
    assert book.endow(both, [two, one])[0] is both
    moved, _ = book.endow(both, [two])
    assert vips(moved) == [("two", "10.0.2.2/29")]
    assert [address(attached(book, f"t{i}", one)) for i in range(5)][-1] == "10.0.1.2/29"


def test_book_endow_full_network_is_named_and_the_others_given() -> None:
    book, wide, tiny = Book(), network("w", "10.0.2.0/29"), network("f", "10.0.3.0/30")
    attached(book, "t0", tiny)
    web, lacking = book.endow(service("web"), [tiny, wide])
    assert vips(web) == [("w", "10.0.2.2/29")]
    assert lacking == ["no free address is left on network f: give it a larger subnet"]


@given(st.lists(st.tuples(st.sampled_from(["take", "end", "serve", "leave", "remove", "restart"]), st.integers(0, 9))))
def test_book_any_history_gives_no_address_twice(history: list[tuple[str, int]]) -> None:
    book, net = Book(), network("n", "10.0.1.0/29")
    living: dict[str, Task] = {}
    serving: dict[str, Service] = {}

    def taken() -> list[str | None]:
        return [address(t) for t in living.values()] + [addr for s in serving.values() for _, addr in vips(s)]

    for step, (what, number) in enumerate(history):
        room = len(taken()) < 5
        if what == "take":
            found = book.attach(task(f"t{step}"), [net])
            assert isinstance(found, Task) == room
            if isinstance(found, Task):
                living[found.id] = found
        elif what == "serve":
            endowed, lacking = book.endow(service(f"s{step}"), [net])
            assert bool(lacking) != room
            serving[endowed.id] = endowed
        elif what == "end" and living:
            gone = living.pop(sorted(living)[number % len(living)])
            book.record(in_state(gone, "failed"))
        elif what == "leave" and serving:
            name = sorted(serving)[number % len(serving)]
            serving[name] = book.endow(serving[name], [])[0]
        elif what == "remove" and serving:
            name = sorted(serving)[number % len(serving)]
            del serving[name]
            book.forget(name)
        elif what == "restart":
            book = Book(living.values(), serving.values())
        assert len(set(taken())) == len(taken())


def test_vxlan_ids_are_unique_and_kept() -> None:
    first = with_vxlan_ids([network("a"), network("b")])
    again = with_vxlan_ids([first[1], network("c"), first[0], network("d")])
    assert [vxlan_id(n) for n in first + again] == [4097, 4098, 4099, 4100]
