"""What reading a large stack file costs: CPU time of reading with all checks, conversion, and the plan of a deploy
where everything is new and of one where nothing has changed.

    python bench/stacks.py [--services 500] [--rounds 5] [--json]

The exit code is 1 when reading, checking and planning take a second or more together.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from essaim.cluster.service import Service
from essaim.stacks.convert.convert import Stack, convert
from essaim.stacks.plan.operations import Existing
from essaim.stacks.plan.plan import plan
from essaim.stacks.read.load import Source, load
from essaim.stacks.render import render
from tests.stacks.large_file import large

LIMIT = 1.0


def deployed(stack: Stack) -> Existing:
    """A cluster that has it all already."""
    networks = {spec.name or "": spec.name or "" for spec in stack.networks}
    return Existing([Service(id=spec.name or "", spec=spec) for spec in stack.services], networks)


def one_round(text: str) -> dict[str, float]:
    marks = [time.process_time()]
    document = load([Source("large.yml", text)], {"HOME": "/root"}, Path("/"))
    marks.append(time.process_time())
    stack = convert(document, "ns")
    marks.append(time.process_time())
    first = plan(stack, Existing())
    marks.append(time.process_time())
    second = plan(stack, deployed(stack))
    marks.append(time.process_time())
    render(document)
    marks.append(time.process_time())
    assert not first.is_empty
    assert second.is_empty
    names = ("read and check", "convert", "plan of a first deploy", "plan of the same again", "print (stack config)")
    return {name: after - before for name, before, after in zip(names, marks, marks[1:], strict=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--services", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    text = large(options.services)
    rounds = [one_round(text) for _ in range(options.rounds)]
    result = {name: round(statistics.median(one[name] for one in rounds), 3) for name in rounds[0]}
    total = sum(seconds for name, seconds in result.items() if name != "print (stack config)")
    result |= {"together": round(total, 3), "limit": LIMIT}
    if options.json:
        print(json.dumps(result | {"services": options.services}))
    else:
        print("\n".join(f"{name:<24} {seconds:>7.3f} s" for name, seconds in result.items()))
    sys.exit(total >= LIMIT)


if __name__ == "__main__":
    main()
