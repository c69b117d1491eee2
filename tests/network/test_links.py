"""Links as the kernel has them, in a network namespace of their own: what is taken away is mended."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.root]
ROOT = Path(__file__).parents[2]
SCRIPT = """
import json
from pyroute2 import IPRoute
from essaim.network import links
from essaim.network.links import Link, look, mend

link = Link("net1", 4097, "10.0.0.1", frozenset({"10.0.0.2", "10.0.0.3"}), 4789, 1450)
said = []

def state():
    seen = look([link])["net1"]
    return [seen.has_bridge, seen.is_wired, sorted(seen.peers)]

with IPRoute() as routes:
    said.append(state())
    routes.link("add", ifname=links.bridge_name("net1"), kind="bridge")
    said.append(state())
    mend(link, look([link])["net1"])
    said.append(state())
    index = routes.link_lookup(ifname=links.vxlan_name(4097))[0]
    routes.fdb("del", ifindex=index, lladdr=links.EVERYBODY, dst="10.0.0.2")
    routes.fdb("append", ifindex=index, lladdr=links.EVERYBODY, dst="10.0.0.9")
    mend(link, look([link])["net1"])
    said.append(state())
    routes.link("set", index=index, master=0)
    said.append(state())
    mend(link, look([link])["net1"])
    said.append(state())
    routes.link("del", index=routes.link_lookup(ifname=links.vxlan_name(4097))[0])
    mend(link, look([link])["net1"])
    said.append(state())
    routes.link("del", index=routes.link_lookup(ifname=links.bridge_name("net1"))[0])
    try:
        mend(link, look([link])["net1"])
    except OSError as error:
        said.append(str(error))
print(json.dumps(said))
"""


def test_link_is_mended_whatever_was_taken_away() -> None:
    done = subprocess.run(
        ["unshare", "--net", sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    whole = [True, True, ["10.0.0.2", "10.0.0.3"]]
    bare = [True, False, []]
    gone = "the network link esnet1 is not there (any more)"
    off = [True, False, ["10.0.0.2", "10.0.0.3"]]
    assert json.loads(done.stdout) == [[False, False, []], bare, whole, whole, off, whole, whole, gone]
