"""`python -m tests.soak`, as root from the checkout: a soak by hand. See docs/soak.md."""

import argparse
import asyncio
import sys
from pathlib import Path

from .faults import BY_TITLE
from .soak import Settings, soak


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Faults on a cluster under load.")
    parser.add_argument("--seed", default="1", help="any text; the same gives the same faults")
    parser.add_argument("--first", type=int, default=0, help="the first fault's place in the plan")
    parser.add_argument("--count", type=int, help="how many faults")
    parser.add_argument("--minutes", type=float, help="begin no fault later than this")
    parser.add_argument("--only", action="append", choices=sorted(BY_TITLE), help="kinds of fault; may be repeated")
    parser.add_argument("--ignore", default="", metavar="REGEX", help="what is known to be wrong")
    parser.add_argument("--json", type=Path, default=Path("build/soak.json"), help="where the summary goes")
    given = parser.parse_args()
    seconds = given.minutes * 60 if given.minutes else None if given.count else 600.0
    kinds = tuple(given.only or BY_TITLE)
    settings = Settings(given.seed, kinds, given.first, given.count, seconds, given.ignore)
    report = asyncio.run(soak(settings))
    print(report.text())
    report.save(given.json)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
