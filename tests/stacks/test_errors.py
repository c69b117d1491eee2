"""What bad input gets: file, line, column, key path, what was found and what is allowed."""

from collections.abc import Callable
from pathlib import Path

import pytest

from essaim.stacks.check.schema import service_keys
from essaim.stacks.convert.convert import convert
from essaim.stacks.read.load import Source, load
from essaim.stacks.source.errors import Problem, StackError
from essaim.stacks.source.files import absolute

Problems = Callable[..., list[Problem]]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("imag: x", 'stack.yml:3:5: services.a.imag: unknown key "imag"; did you mean "image"?'),
        ("image: {a: b}", "stack.yml:3:12: services.a.image: must be a string, found a mapping"),
        ("image: x\n    deploy: {replicaz: 3}",
         'services.a.deploy.replicaz: unknown key "replicaz"; did you mean "replicas"?'),
        ("image: x\n    deploy: {replicas: many}", 'services.a.deploy.replicas: must be an integer, found "many"'),
        ("image: x\n    deploy: {mode: globl}", 'services.a.deploy.mode: found "globl"; did you mean "global"?'),
        ("image: x\n    deploy: {zzz: 1}", "allowed: mode, endpoint_mode, replicas, labels"),
        ("image: x\n    deploy: {update_config: {order: x}}", 'found "x"; allowed: start-first, stop-first'),
        ("image: x\n    deploy: {resources: {limits: {memory: 5x}}}", "must be a size such as 512, 64m or 1.5gb"),
        ("image: x\n    deploy: {resources: {limits: {cpus: '0.00000000001'}}}", "with at most 9 decimals"),
        ("image: x\n    stop_grace_period: '10'", "must be a duration such as 10s"),
        ("image: x\n    ports: ['80:x']", 'services.a.ports[0]: "80:x" is no port; allowed: [[IP:]PUBLISHED'),
        ("image: x\n    ports: ['80-85:80-81']", "the ranges 80-85 and 80-81 differ in length"),
        ("image: x\n    ports: ['1-4097']", "services.a.ports[0]: the range 1-4097 holds more than 4096 ports"),
        ("image: x\n    ports: ['99999:80']", "99999 is not within 0-65535"),
        ("image: x\n    ports: [{published: 80}]", '"target" is missing'),
        ("image: x\n    ports: ['nohost:80:80']", '"nohost" is not an IP address'),
        ("image: x\n    ports: ['80:80/icmp']", '"icmp" is no protocol of a port; allowed: tcp, udp, sctp, http'),
        ("image: x\n    ports: [{target: 80, mode: hst}]", 'the mode "hst" does not exist; allowed: ingress, host'),
        ("image: x\n    volumes: ['/a:/b:rx']", '"rx" in "/a:/b:rx" is no mount option'),
        ("image: x\n    volumes: ['data:/b']", 'services.a.volumes: the volume "data" is not defined in the file'),
        ("image: x\n    networks: [web]",
         'services.a.networks: the network "web" is not defined in the file; did you mean "webs"'),
        ("image: x\n    secrets: [s]", 'the secret "s" is not defined in the file'),
        ("image: x\n    configs: [{source: s}]", 'the config "s" is not defined in the file'),
        ("image: x\n    depends_on: [b]", 'the service "b" is not defined in the file'),
        ("image: x\n    depends_on: [a]", "services.a.depends_on: goes in a circle: a -> a"),
        ("image: x\n    environment: [A, A]", '"A" stands twice in the list'),
        ("image: x\n    oom_score_adj: 5000", "must be at most 1000, found 5000"),
        ("image: x\n    healthcheck: {test: [foo]}", 'the list starts with "foo"; allowed: NONE, CMD, CMD-SHELL'),
        ("image: x\n    command: \"a 'b\"", "cannot be split into words: no closing quotation"),
        ("image: 'a b'", '"a b" is not a valid image reference'),
        ("build: .", "services.a: no image specified; build is not carried out here"),
        ("command: x", "services.a: no image specified; give one with image:"),
        ("image: x\n    image: y", 'stack.yml:4:5: the key "image" is already defined at line 3'),
        ("image: x${", 'cannot substitute variables: "${" has no variable name'),
        ("image: x\n    volumes_from: [b]", "is not supported: The other container may run on another node"),
        ("image: x\n    network_mode: service:b", "the other container may run on another node"),
        ("image: x\n    network_mode: host\n    networks: [webs]", "network_mode and networks exclude each other"),
        ("image: x\n    container_name: one\n    deploy: {replicas: 2}", "refused for more than one replica"),
        ("image: x\n    scale: 2\n    deploy: {replicas: 3}", "scale and deploy.replicas (3) contradict each other"),
        ("image: x\n    restart: sometimes", 'stack.yml:4:14: services.a.restart: "sometimes" is no restart policy'),
        ("image: x\n    deploy: {mode: global, replicas: 2}",
         "stack.yml:4:38: services.a.deploy.replicas: can only be given in the modes replicated"),
        ("image: x\n    scale: 2\n    deploy: {mode: global}", "stack.yml:4:12: services.a.scale: can only be"),
        ("image: x\n    memswap_limit: 1g", "stack.yml:4:20: services.a.memswap_limit: needs a memory limit"),
        ("image: x\n    tmpfs: [/t, '/x:size=k']", "stack.yml:4:17: services.a.tmpfs[1]: \"size=k\""),
        ("image: x\n    scale: 99999999999999999999", "services.a.scale: must be an integer of 64 bits, found 99999"),
        ("image: x\n    pids_limit: '9223372036854775808'", "services.a.pids_limit: must be an integer of 64 bits"),
        ("image: x\n    command: \"a\x01\"", "stack.yml:4:16: not valid YAML: the character U+0001 must not stand in"),
        ("image: x\n    label_file: nope", "services.a.label_file: the environment file /project/nope does not exist"),
        ("extends: {file: nope.yml, service: b}",
         "stack.yml:3:21: services.a.extends.file: cannot read /project/nope.yml: No such file"),
        ("image: x\n    tmpfs: [x]", '"x" is no tmpfs mount'),
        ("image: x\n    env_file: nope.env",
         "services.a.env_file: the environment file /project/nope.env does not exist"),
        ("image: x\n    extends: {service: b}", 'the service "b" does not exist'),
        ("image: x\n    extends: {service: a}", 'the service "a" extends itself'),
        ("image: x\n    ports: ['80:1', '80:2']", "port 80/tcp is already published by the service a"),
        ("image: x\n    volumes: ['/a:/t', '/b:/t']", "services.a.volumes[1]: duplicate mount point /t"),
        ("image: x\n    volumes: [{type: bind, source: /a, target: /t, tmpfs: {size: 5}}]",
         "stack.yml:4:52: services.a.volumes[0].tmpfs: tmpfs options are incompatible with type bind"),
        ("image: x\n    volumes: [{type: cluster, source: a, target: /t}]",
         "services.a.volumes[0].type: there are no cluster volumes"),
        ("image: x\n    expose: [80, x]", 'services.a.expose[1]: must be PORT[-END][/tcp|udp|sctp], found "x"'),
        ("image: x\n    security_opt: ['seccomp=no.json']", "services.a.security_opt: cannot read /project/no.json"),
        ("image: x\n    mem_limit: 100", "services.a.mem_limit: must be at least 4 MiB, found 100 bytes"),
        ("image: x\n    deploy: {resources: {limits: {cpus: '0.0001'}}}", "limits.cpus: must be at least 0.001"),
        ("image: x\n    deploy: {restart_policy: {delay: -1s}}", "delay: must not be negative, found -1s"),
        ("image: x\n    deploy: {update_config: {parallelism: -1}}", "parallelism: must not be negative, found -1"),
        ("image: x\n    deploy: {update_config: {max_failure_ratio: 2}}", "must be between 0 and 1, found 2"),
        ("image: x\n    healthcheck: {interval: 1us}", "services.a.healthcheck.interval: must be at least 1ms"),
        ("image: x\n    ports: ['1:1']\n    deploy: {endpoint_mode: dnsrr}",
         "services.a.ports[0]: a port of mode ingress cannot be published with endpoint_mode dnsrr"),
        ("image: x\n    ports: [{target: 1, published: 5, mode: host}, {target: 2, published: 5, mode: host}]",
         "services.a.ports[1]: port 5/tcp is published twice"),
        ("image: x\n    volumes: ['/a:/t']\n    tmpfs: /t", "services.a.tmpfs[0]: duplicate mount point /t"),
        ("image: x\n    deploy: {placement: {constraints: ['node role==a']}}", "constraints[0]: must be KEY==VALUE"),
        ("image: x\n    deploy: {placement: {constraints: [manager]}}",
         "constraints[0]: must be KEY==VALUE or KEY!=VALUE"),
        ("image: x\n    extra_hosts: {h: a=b}", "must be HOST:ADDRESS or HOST=ADDRESS"),
        ("image: x\n    ulimits: {no-file: {}}", '"no-file" is not a valid name here'),
        ("image: x\n    blkio_config: {device_read_bps: [{}]}", '"path" is missing'),
        ("image: x\n    environment:\n      A: '1'\n      B: '{{.Foo}}'",
         "stack.yml:6:10: services.a.environment.B: the placeholder {{.Foo}} names an unknown field; below .:"),
        ("image: x\n    environment: [A=1, 'B={{.Task.Slot']",
         "stack.yml:4:24: services.a.environment.B: the placeholder {{.Task.Slot is not closed with }}"),
        ("image: x\n    hostname: '{{CONTAINER_IP}}'",
         "stack.yml:4:15: services.a.hostname: the placeholder {{CONTAINER_IP}} asks for CONTAINER_IP, which"),
        ("image: x\n    volumes: ['/a:/b', '/{{.Node.X}}:/c']",
         "stack.yml:4:24: services.a.volumes[1].source: the placeholder {{.Node.X}} names an unknown field; below"),
        ("image: x\n    volumes: [{type: bind, source: /a, target: '/b/{{.Task}}'}]",
         "services.a.volumes[0].target: the placeholder {{.Task}} is a group of fields; name one of: ID, Name, Slot"),
        ("image: x\n    volumes: [{type: volume, target: /t, volume: {labels: {l: '{{if .Task.Slot}}'}}}]",
         "services.a.volumes[0].volume.labels.l: the placeholder {{if .Task.Slot}} is not understood; possible are"),
        ("image: x\n    tmpfs: ['/{{}}']", "services.a.tmpfs[0]: the placeholder {{}} is empty"),
    ],
)  # fmt: skip
def test_mistake_in_a_service_is_named_with_its_place(body: str, expected: str, problems_of: Problems) -> None:
    text = f"services:\n  a:\n    {body}\nnetworks: {{webs: {{}}}}\n"
    assert expected in "\n".join(str(problem) for problem in problems_of(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "stack.yml: the file is empty"),
        ("- a", "stack.yml:1:1: must be a mapping, found a list"),
        ("servces: {}", 'stack.yml:1:1: servces: unknown key "servces"; did you mean "services"?'),
        ("services: {'a b': {image: x}}", '"a b" is not a valid name here'),
        ("services: {a: {image: x}}\nsecrets: {s: {}}", "secrets.s: has no source; give it one; allowed: file"),
        ("services: {a: {image: x}}\nsecrets: {s: {driver: ''}}", "secrets.s: has no source; give it one"),
        ("services: {a: {image: x}}\nsecrets: {s: {environment: ''}}", "secrets.s: has no source; give it one"),
        ("services: {a: {image: x}}\nsecrets: {s: {file: x, external: true}}", "file and external exclude each other"),
        ("services: {a: {image: x}}\nsecrets: {s: {file: gone}}", "secrets.s.file: cannot read /project/gone: No such"),
        (
            "services: {a: {image: x}}\nsecrets: {s: {driver: vault}}",
            "stack.yml:2:15: secrets.s.driver: is not supported: No secret provider's plugin is asked here",
        ),
        (
            "services: {a: {image: x}}\nconfigs: {s: {content: a, template_driver: jinja}}",
            'configs.s.template_driver: found "jinja"; allowed: golang',
        ),
        ("services: {a.b: {image: x}}", 'services.a.b: "ns_a.b" cannot be a service\'s name'),
        ("services: {" + "a" * 61 + ": {image: x}}", "is longer than 63 characters"),
        ("services: {a: {image: x}}\nsecrets: {" + "a" * 62 + ": {file: f}}", "is longer than 64 characters"),
        ("services: {a: {image: x}}\nconfigs: {s: {environment: GONE}}", 'the variable "GONE" is not set'),
        ("services: {a: {image: x}}\nconfigs: {s: {content: ''}}", "configs.s: has 0 bytes; allowed: 1 to 1000 KiB"),
        (
            "services: {a: {image: x}}\nvolumes: {v: {driver_opts: {device: '{{.Foo}}'}}}",
            "stack.yml:2:37: volumes.v.driver_opts.device: the placeholder {{.Foo}} names an unknown field",
        ),
        (
            "services: {a: {image: x}}\nconfigs: {c: {content: '{{secret \"s\"}} {{.Foo}}', template_driver: golang}}",
            "stack.yml:2:24: configs.c: the placeholder {{.Foo}} names an unknown field",
        ),
        (
            "services: {a: {image: x}}\nnetworks: {n: {ipam: {config: [{}, {subnet: nope}]}}}",
            "stack.yml:2:45: networks.n.ipam.config[1].subnet: 'nope' does not appear to be an IPv4 or IPv6 network",
        ),
        (
            "services: {a: {image: x}}\nnetworks: {n: {ipam: {config: [{aux_addresses: {b: 10.1.2.}}]}}}",
            "networks.n.ipam.config[0].aux_addresses.b: '10.1.2.' does not appear to be an IPv4 or IPv6 address",
        ),
        ("include: [{path: []}]", "include: names no file"),
        ("include: [other.yml]", "stack.yml:1:11: include: cannot read /project/other.yml: No such file"),
        ("services: {a: {image: x}}\nmodels: {m: {model: x}}", "models: is not supported"),
        ("services: {a: {image: x}}\nnetworks: {n: {driver: 5}}", "networks.n.driver: must be a string, found 5"),
        ("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}", "goes in a circle: a -> b -> a"),
        (
            "services: {b: {image: x, depends_on: [c]}, c: {build: ., depends_on: [b]}}",
            "services.c.depends_on: goes in a circle: b -> c -> b",
        ),
        (
            "services: {a: {image: x, depends_on: [b]}, b: {image: x, profiles: [dev]}}",
            'the service "b" is only in the profiles dev, and none of them is enabled',
        ),
        ("services: {a: {image: x, ports: ['80:1']}, b: {image: x, ports: ['80:2']}}", "published by the service a"),
        (
            "services: {a: {image: x, secrets: [s, s2]}}\nsecrets: {s: {external: true}}",
            'the secret "s2" is not defined',
        ),
        (
            "services: {a: {image: x, secrets: [s, {source: s}]}}\nsecrets: {s: {external: true}}",
            "duplicate secret target s",
        ),
        ("services: {a: {image: x, ports: !frob []}}", "the tag !frob is not known"),
    ],
)
def test_mistake_in_a_file_is_named_with_its_place(text: str, expected: str, problems_of: Problems) -> None:
    assert expected in "\n".join(str(problem) for problem in problems_of(text))


def misspelled(key: str) -> list[str]:
    """A letter missing, doubled, or swapped with the next; upper case; - for _."""
    middle = len(key) // 2
    swapped = key[: middle - 1] + key[middle] + key[middle - 1] + key[middle + 1 :]
    return [key[:middle] + key[middle + 1 :], key[:middle] + key[middle] + key[middle:], swapped,
            key.upper(), key.replace("_", "-")]  # fmt: skip


@pytest.mark.parametrize("key", service_keys())
def test_misspelled_key_of_a_service_is_answered_with_the_key(key: str, problems_of: Problems) -> None:
    for word in misspelled(key):
        if word not in service_keys():
            (problem,) = problems_of(f"services:\n  a:\n    image: x\n    {word}: 1\n")
            assert (problem.path, problem.place[1:]) == (f"services.a.{word}", (4, 5))
            assert problem.suggestion == key, word


def test_all_mistakes_of_a_stage_are_named_at_once(problems_of: Problems) -> None:
    found = problems_of("services:\n  a: {imag: x, prots: []}\n  b: {image: []}\n")
    assert [problem.path for problem in found] == ["services.a.imag", "services.a.prots", "services.b.image"]


def test_mistake_in_the_second_file_names_the_second_file(problems_of: Problems) -> None:
    (found,) = problems_of("services: {a: {image: x}}", "services:\n  a:\n    prt: 1\n")
    assert found.place == ("stack1.yml", 3, 5)


def test_mistake_in_an_extended_file_names_that_file(problems_of: Problems) -> None:
    text = "services: {a: {extends: {file: base.yml, service: b}}}"
    (found,) = problems_of(text, files={"base.yml": "services:\n  b:\n    imagee: x\n"})
    assert str(found).startswith("/project/base.yml:3:5: services.b.imagee")


def test_endless_mistakes_are_cut_off(problems_of: Problems) -> None:
    text = "services:\n" + "".join(f"  s{n}: {{bad{n}: 1}}\n" for n in range(1000))
    assert len(problems_of(text)) == 100


@pytest.mark.parametrize(
    "text",
    [
        'services: {a: {image: x, env_file: "a\\0b"}}',
        'services: {a: {image: x, label_file: "~\\0b"}}',
        'services: {a: {image: x, security_opt: ["seccomp=a\\0b"]}}',
        'services: {a: {extends: {file: "a\\0b", service: x}}}',
        'services: {a: {image: x}}\nsecrets: {s: {file: "a\\0b"}}',
        'include: ["a\\0b"]',
    ],
)
def test_path_that_no_file_can_have_is_refused_with_its_place(text: str, tmp_path: Path) -> None:
    with pytest.raises(StackError, match="no file's name holds a null character") as caught:
        convert(load([Source("stack.yml", text)], {}, tmp_path), "ns")
    (problem,) = caught.value.problems
    assert problem.place.line
    assert problem.path


def test_seccomp_profile_that_is_nested_without_end_is_refused(problems_of: Problems) -> None:
    text = "services: {a: {image: x, security_opt: ['seccomp=deep.json']}}"
    (problem,) = problems_of(text, files={"deep.json": "[" * 100_000})
    assert problem.path == "services.a.security_opt"


def test_tilde_of_nobody_is_a_folder_of_that_name(tmp_path: Path) -> None:
    for name in ("~nobody-has-this-name/x", "~nobody\0/x"):
        assert absolute(tmp_path, name) == tmp_path / name
