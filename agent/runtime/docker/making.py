"""Containers come and go: create, connect to networks, start, stop, delete, so that after every failure the truth is
found out, and nothing is left behind.

- An Engine that refuses may have acted, and one that does not answer may act yet. So a container is looked for before
  it is made or started again, and what may yet come of a lost call is looked for later (`sweep`). The call may have
  been the last run's: this process remembers no more of that than that nobody holds what comes of it.
- A container is asked to start once. When the answer is lost and it does not run, it is deleted and another is made:
  the first start could come true after the second one's container has ended, and run it again.
- A container that was never started is deleted rather than stopped: a start that the Engine still has in hand would
  make it run after it was called ended.
"""

from typing import Any

import msgspec
import structlog

from essaim.agent.runtime.interface import Phase, Rejected, RuntimeUnavailable, StartFailed, Unprepared

from .container_config import NODE_ID, TASK_ID
from .engine import LOOK_WITHIN, Engine, EngineError
from .holdings import Held, Holdings
from .looks import Looks

SLACK = 30.0
"""Seconds beyond the grace period that the Engine may take for a stop."""
ROUNDS = 40
"""Comparisons with the Engine's list for which the outcome of a lost call is looked for: some ten minutes."""

NEVER_STARTED = "created"
"""The Engine's word for it."""
FORCE = {"force": "1", "v": "1"}
Point = tuple[str, dict[str, Any]]
"""A network's id and how the container is to be on it."""


class Making:
    """Steps of one task follow each other; the caller sees to that."""

    def __init__(
        self, engine: Engine, holdings: Holdings, looks: Looks, log: structlog.typing.FilteringBoundLogger
    ) -> None:
        self._engine = engine
        self._holdings = holdings
        self._looks = looks
        self._log = log
        self._wanted: set[str] = set()
        self._tried: set[str] = set()
        self._doubtful: dict[str, int] = {}

    def want(self, task_id: str) -> None:
        """The task is about to be made: from now until it is removed or rejected nothing of it is swept away."""
        self._wanted.add(task_id)

    def rejected(self, task_id: str) -> None:
        """The task will not be made: what a refused or lost call of an earlier attempt left is swept away."""
        self._wanted.discard(task_id)

    def recovered(self, task_id: str) -> None:
        """A container found after a restart that was not started: the last run may have asked for that."""
        self._tried.add(task_id)

    async def create(self, task_id: str, name: str, body: dict[str, Any]) -> str:
        """The id of the task's container: a new one, or what an earlier attempt left. Raises Rejected,
        RuntimeUnavailable."""
        try:
            created = await self._engine.call("POST", "/containers/create", params={"name": name}, body=body)
            return str(created["Id"])
        except EngineError as error:
            refusal = error
        except RuntimeUnavailable:
            self._doubtful[task_id] = ROUNDS
            raise
        try:
            container_id = await self._own(name, task_id)
        except RuntimeUnavailable:
            self._doubtful[task_id] = ROUNDS
            raise
        if not container_id:
            raise Rejected(str(refusal)) from refusal
        return container_id

    async def connect(self, task_id: str, points: list[Point]) -> None:
        """Put the task's container on further networks. Raises Rejected, and the container is then deleted;
        RuntimeUnavailable."""
        held = self._holdings.one(task_id)
        for network, point in points:
            body = {"Container": held.container_id, "EndpointConfig": point}
            try:
                await self._engine.call("POST", f"/networks/{network}/connect", body=body)
            except EngineError as error:
                if not await self._is_on(held.container_id, network):
                    await self._give_back(task_id, held)
                    raise Rejected(f"the container cannot be connected to network {network}: {error}") from error
        self._holdings.change(task_id, is_whole=True)

    async def start(self, task_id: str) -> None:
        """Raises StartFailed, Unprepared, RuntimeUnavailable."""
        held = self._holdings.one(task_id)
        if (known := self._holdings.views.get(task_id)) and known.phase is not Phase.CREATED:
            return  # by the last run: one that ended meanwhile would be started a second time
        if task_id in self._tried:
            await self._not_twice(task_id, held)
            return
        self._tried.add(task_id)
        try:
            await self._engine.call("POST", f"/containers/{held.container_id}/start")
        except EngineError as error:
            view = await self._looks.now(held.container_id)
            if view is not None and (view.phase is Phase.RUNNING or (view.phase is Phase.EXITED and not view.error)):
                return
            raise StartFailed(f"starting container failed: {error}") from error

    async def stop(self, task_id: str) -> None:
        """Returns once the Engine says that the container does not run. Raises RuntimeUnavailable."""
        held = await self._find(task_id)
        view = await self._looks.now(held.container_id) if held else None
        if held is None or view is None or view.phase is Phase.EXITED:
            return
        if view.phase is Phase.CREATED:
            await self.remove(task_id)
            return
        refusal = ""
        try:
            # The stop signal and the grace period are the container's own (StopSignal, StopTimeout).
            grace = self._holdings.one(task_id).grace
            await self._engine.call("POST", f"/containers/{held.container_id}/stop", timeout=grace + SLACK)
        except EngineError as error:
            refusal = str(error)
        view = await self._looks.now(held.container_id)
        if view is not None and view.phase is not Phase.EXITED:
            raise RuntimeUnavailable(f"the container cannot be stopped: {refusal or 'it runs on'}")

    async def remove(self, task_id: str) -> None:
        """Returns once the container is gone. Raises RuntimeUnavailable."""
        self._wanted.discard(task_id)
        held = await self._find(task_id)
        if held is not None:
            await self._delete(held)
        self._tried.discard(task_id)

    async def sweep(self, unheld: list[dict[str, Any]]) -> None:
        """Delete what came of lost calls, of the Engine's list of containers that no task holds.

        All that there were at the start are held (`recover`). So one that no task holds, that was never started, and
        that is not being made now came of a lost call, of this run or of the last."""
        for entry in unheld:
            task_id = (entry.get("Labels") or {}).get(TASK_ID, "")
            is_lost = task_id in self._doubtful or (task_id and entry.get("State") == NEVER_STARTED)
            if is_lost and task_id not in self._wanted:
                self._log.warning("a container that came of a lost call is removed", task_id=task_id)
                try:
                    await self._engine.call("DELETE", f"/containers/{entry['Id']}", params=FORCE)
                except (EngineError, RuntimeUnavailable) as problem:
                    self._log.warning("it could not be removed; trying again", reason=str(problem))
        self._doubtful = {task_id: left - 1 for task_id, left in self._doubtful.items() if left > 1}

    # What is there

    async def _find(self, task_id: str) -> Held | None:
        """The task's container, also when the call that made it was lost. Raises RuntimeUnavailable."""
        held = self._holdings.get(task_id)
        if held is None and task_id in self._doubtful:
            filters = msgspec.json.encode({"label": [f"{TASK_ID}={task_id}"]}).decode()
            params = {"all": "1", "filters": filters}
            for entry in await self._ask("/containers/json", params):
                held = held_from(entry, is_whole=False)
                self._holdings.hold(task_id, held)
        return held

    async def _own(self, name: str, task_id: str) -> str:
        """The id of a container that an earlier attempt of this very task left; empty when there is none, or when it is
        another's. Raises RuntimeUnavailable."""
        try:
            inspected = await self._engine.call("GET", f"/containers/{name}/json", timeout=LOOK_WITHIN)
        except EngineError as error:
            if error.status == 404:
                return ""
            self._doubtful[task_id] = ROUNDS
            raise RuntimeUnavailable(f"the Docker Engine does not tell whether {name} was made: {error}") from error
        return str(inspected["Id"]) if inspected["Config"]["Labels"].get(TASK_ID) == task_id else ""

    async def _is_on(self, container_id: str, network: str) -> bool:
        inspected = await self._ask(f"/containers/{container_id}/json")
        points = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
        return any(name == network or (point or {}).get("NetworkID") == network for name, point in points.items())

    async def _ask(self, path: str, params: dict[str, str] | None = None) -> Any:
        try:
            return await self._engine.call("GET", path, params=params, timeout=LOOK_WITHIN)
        except EngineError as error:
            raise RuntimeUnavailable(f"the Docker Engine refuses GET {path}: {error}") from error

    async def _not_twice(self, task_id: str, held: Held) -> None:
        """The answer to an earlier start was lost. Returns when it came true; raises Unprepared when it did not."""
        view = await self._looks.now(held.container_id)
        if view is not None and view.phase is not Phase.CREATED:
            return
        if view is not None:
            await self._delete(held)
        self._tried.discard(task_id)
        raise Unprepared("the answer to the start of its container was lost: another container is made")

    async def _give_back(self, task_id: str, held: Held) -> None:
        """Delete what cannot be used; what cannot be deleted now is, later."""
        self._wanted.discard(task_id)
        try:
            await self._delete(held)
        except RuntimeUnavailable as problem:
            self._log.warning("a container that is not used could not be deleted yet", reason=str(problem))
            self._holdings.drop(task_id)
            self._doubtful[task_id] = ROUNDS

    async def _delete(self, held: Held) -> None:
        """Raises RuntimeUnavailable unless the container is gone afterwards."""
        try:
            await self._engine.call("DELETE", f"/containers/{held.container_id}", params=FORCE)
        except EngineError as error:
            # Also a removal that is under way may fail yet.
            if error.status != 404 and await self._looks.now(held.container_id) is not None:
                raise RuntimeUnavailable(f"the container cannot be removed: {error}") from error
        await self._looks.found_gone(held.container_id)


def held_from(entry: dict[str, Any], *, is_whole: bool) -> Held:
    """From the Engine's list. The grace period is not in it: a look learns it."""
    name = (entry.get("Names") or ["/?"])[0].lstrip("/")
    return Held(entry["Id"], name, entry["Labels"].get(NODE_ID, ""), 0.0, is_whole=is_whole)
