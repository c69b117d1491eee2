"""What names stand for, by who asks."""

from essaim.cluster.overlay import OverlayNetwork, VirtualService
from essaim.network.directory import Client, Directory


def network(network_id: str, names: dict[str, list[str]], *services: VirtualService) -> OverlayNetwork:
    return OverlayNetwork(network_id, network_id, "10.0.1.0/24", "10.0.1.1", 4097, names=names, services=[*services])


def directory(networks: list[OverlayNetwork], *clients: Client) -> Directory:
    made = Directory()
    made.replace(networks, clients)
    return made


DB = VirtualService("10.0.1.2", ["10.0.1.3", "10.0.1.4"], ["10.0.1.5"])
INNER = network("inner", {"db": ["10.0.1.2"], "tasks.db": ["10.0.1.3", "10.0.1.4"], "both": ["10.0.1.9"]}, DB)
OUTER = network("outer", {"web": ["10.0.2.7"], "both": ["10.0.2.9"]})


def test_lookup_virtual_address_only_for_clients_whose_rules_know_it() -> None:
    with_rules = Client({"inner": "10.0.1.20"}, {"inner": frozenset({"10.0.1.2"})})
    without = Client({"inner": "10.0.1.21"})
    found = directory([INNER], with_rules, without)
    assert found.lookup("inner", "10.0.1.20", "db") == ["10.0.1.2"]
    for asking in ("10.0.1.21", "10.0.1.99"):
        assert found.lookup("inner", asking, "db") == ["10.0.1.3", "10.0.1.4"]
    for asking in ("10.0.1.20", "10.0.1.21", "10.0.1.99"):
        assert found.lookup("inner", asking, "tasks.db") == ["10.0.1.3", "10.0.1.4"]


def test_lookup_nobody_up_without_rules_is_no_address_rather_than_no_name() -> None:
    found = directory([network("n", {"db": ["10.0.1.2"]}, VirtualService("10.0.1.2"))])
    assert found.lookup("n", "10.0.1.20", "db") == []
    assert found.lookup("n", "10.0.1.20", "cache") is None


def test_lookup_goes_through_all_networks_of_the_client_the_asked_one_first() -> None:
    both = Client({"inner": "10.0.1.20", "outer": "10.0.2.20"})
    found = directory([INNER, OUTER], both)
    assert found.lookup("inner", "10.0.1.20", "web") == ["10.0.2.7"]
    assert found.lookup("inner", "10.0.1.20", "both") == ["10.0.1.9"]
    assert found.lookup("outer", "10.0.2.20", "both") == ["10.0.2.9"]
    assert found.lookup("inner", "10.0.1.99", "web") is None
    found.replace([OUTER], [both])
    assert found.lookup("inner", "10.0.1.20", "both") == ["10.0.2.9"]
