"""A stack file of many services, each with the keys that public files use most."""


def large(count: int) -> str:
    service = """
  s{n}:
    image: nginx:1.25
    command: serve "two words" {n}
    environment: {{A: "1", B: "${{HOME}}", C: x{n}}}
    ports: ["{port}:80"]
    networks: [front, back]
    labels: {{a: b, c: d}}
    volumes: ["data:/data", "./x:/x:ro"]
    healthcheck: {{test: ["CMD", "true"], interval: 10s, timeout: 5s, retries: 3}}
    logging: {{driver: json-file, options: {{max-size: 10m}}}}
    deploy:
      replicas: 3
      labels: {{x: y}}
      resources: {{limits: {{cpus: "0.5", memory: 50M}}, reservations: {{memory: 20M}}}}
      restart_policy: {{condition: on-failure, delay: 5s}}
      update_config: {{parallelism: 2, delay: 10s, order: start-first}}
      placement: {{constraints: [node.role == worker]}}"""
    services = "".join(service.format(n=n, port=10000 + n) for n in range(count))
    return f"services:{services}\nnetworks: {{front: , back: }}\nvolumes: {{data: }}\n"
