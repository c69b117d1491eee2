"""The fault-injection proxy as a process of its own, for tests without an event loop."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .engine_faults import Call, Rule, plain_path, shown

UP_WITHIN = 20.0
ROOT = Path(__file__).parents[1]


class ProxyProcess:
    """As `EngineProxy`, from outside. Methods block; use it with `with`."""

    def __init__(self, engine: Path | str, listen: Path | str) -> None:
        self.listen = Path(listen)
        self.control = Path(f"{listen}.control")
        self._argv = [sys.executable, "-m", "tools.engine_proxy", "--listen", str(listen), "--engine"]
        self._argv.append(str(engine).removeprefix("unix://"))
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.listen}"

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(self._argv, cwd=ROOT, stdout=subprocess.DEVNULL)
        end = time.monotonic() + UP_WITHIN
        while True:
            try:
                self.ask()
            except OSError:
                assert self._process.poll() is None, "the proxy ended"
                assert time.monotonic() < end, "the proxy does not come up"
                time.sleep(0.02)
            else:
                return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait()
        for path in (self.listen, self.control):
            path.unlink(missing_ok=True)

    def rules(self, *rules: Rule) -> None:
        """Replace the rules; without any, everything passes."""
        self.ask({"rules": shown(rules)})

    def set_gate(self, gate: str) -> None:
        self.ask({"gate": gate})

    def calls(self, *, forget: bool = False) -> list[Call]:
        """What came so far, oldest first."""
        return [Call(**entry) for entry in self.ask({"forget": forget})["calls"]]

    def count(self, method: str = ".*", path: str = ".*") -> int:
        return _count(self.calls(), method, path)

    def ask(self, order: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send one order to the control socket; its answer. Raises ValueError for what it does not understand."""
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(UP_WITHIN)
            line.connect(str(self.control))
            line.sendall(json.dumps(order or {}).encode() + b"\n")
            with line.makefile("rb") as answers:
                answer = json.loads(answers.readline())
        if "error" in answer:
            raise ValueError(answer["error"])
        assert isinstance(answer, dict)
        return answer


def _count(calls: Iterable[Call], method: str, path: str) -> int:
    fitting = Rule("drop", method, path)
    return sum(fitting.fits(call.method, plain_path(call.path)) for call in calls)
