"""What runs in the soak: one service of each kind that the product knows, and how the load asks each for its health."""

from dataclasses import dataclass
from pathlib import Path

from tests.lab.images import Image, python_image

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
IMAGE = "soak/app:1"
NAME = "soak"

STACK = f"""
services:
  web:
    image: {IMAGE}
    command: [python3, /whoami.py]
    ports: [{{target: 80, published: 8000, app_protocol: http}}]
    deploy:
      replicas: 4
      update_config: {{parallelism: 2, delay: 0s, monitor: 1s, order: start-first}}
      rollback_config: {{parallelism: 2, delay: 0s, monitor: 1s, order: start-first}}
      restart_policy: {{delay: 500ms}}
  echo:
    image: {IMAGE}
    command: [python3, /app.py, echo]
    stop_grace_period: 2s
    ports: [{{target: 9000, published: 8001}}, {{target: 9001, published: 8002, protocol: udp}}]
    deploy:
      replicas: 3
      # A flood's flows end soon enough for the check after it.
      labels: {{essaim.timeout.udp: 10s}}
      update_config: {{order: start-first, monitor: 1s}}
      restart_policy: {{delay: 500ms}}
  store:
    image: {IMAGE}
    command: [python3, /app.py, store]
    networks: [inner]
    secrets: [{{source: token, target: token}}]
    configs: [{{source: settings, target: /etc/soak.conf}}]
    healthcheck: {{test: [CMD, wget, -qO-, "http://127.0.0.1/"], interval: 3s, timeout: 9s, retries: 6}}
    deploy: {{replicas: 2, update_config: {{order: start-first, monitor: 1s}}, restart_policy: {{delay: 500ms}}}}
  probe:
    image: {IMAGE}
    command: [python3, /app.py, probe]
    networks: [inner]
    ports: [{{target: 80, published: 8003, app_protocol: http}}]
    deploy: {{mode: global, restart_policy: {{delay: 500ms}}}}
  db:
    image: {IMAGE}
    command: [python3, /whoami.py]
    ports: [{{target: 80, published: 8004, app_protocol: http}}]
    volumes: ["data:/data"]
    healthcheck: {{test: [CMD, wget, -qO-, "http://127.0.0.1/health"], interval: 5s, timeout: 9s, retries: 6}}
    deploy: {{replicas: 1, restart_policy: {{delay: 500ms}}}}
  tick:
    image: {IMAGE}
    command: ["true"]
    deploy: {{mode: replicated-job, labels: {{essaim.schedule: "* * * * *"}}}}
networks: {{inner: {{}}}}
volumes: {{data: {{}}}}
secrets: {{token: {{external: true, name: soak-token-0}}}}
configs: {{settings: {{external: true, name: soak-settings-0}}}}
"""


@dataclass(frozen=True)
class Served:
    """One published port. `how`: http, tcp or udp. `path` is asked for where it is http."""

    name: str
    port: int
    how: str
    path: str = "/"


SERVED = (
    Served("web", 8000, "http", "/?wait=50ms"),
    Served("echo", 8001, "tcp"),
    Served("echo-udp", 8002, "udp"),
    Served("probe", 8003, "http"),
    Served("db", 8004, "http", "/health"),
)


def image() -> Image:
    whoami = ROOT / "agent" / "runtime" / "whoami.py"
    return python_image(IMAGE, ["sleep", "infinity"], {"/whoami.py": whoami, "/app.py": HERE / "app.py"})
