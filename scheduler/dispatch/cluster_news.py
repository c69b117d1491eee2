"""What every agent is told of the cluster itself: whom it may connect to, and which certificate authority to trust."""

from collections.abc import Callable, Mapping

from essaim.cluster.store import Store
from essaim.cluster.watch import Event
from essaim.cluster.wire import Trust

from .session import Session


class ClusterNews:
    """`sessions` are the live ones by node id; `addresses` gives the managers' (host:port), as agents may dial them."""

    def __init__(self, store: Store, sessions: Mapping[str, Session], addresses: Callable[[], list[str]]) -> None:
        self._store = store
        self._sessions = sessions
        self._addresses = addresses
        self.managers: list[str] = []
        """Their addresses as the sessions were told last."""

    def begin(self) -> None:
        self.managers = list(self._addresses())

    def connect(self, session: Session) -> None:
        if (trust := self._trust()) is not None:
            session.send_latest(trust)

    def observe(self, event: Event) -> None:
        if event.table == "clusters" and (event.old is None or event.object.tls_info != event.old.tls_info):
            self.spread_trust()

    def spread_trust(self) -> None:
        for session in self._sessions.values():
            self.connect(session)

    def check(self) -> None:
        """Managers' addresses come from outside the store: no event tells of them."""
        managers = list(self._addresses())
        if managers != self.managers:
            self.managers = managers
            for session in self._sessions.values():
                session.managers_changed(managers)

    def _trust(self) -> Trust | None:
        cluster = self._store.cluster
        return Trust(cluster.tls_info) if cluster is not None and cluster.tls_info is not None else None
