"""Names for services that were given none.

Pure: chance is passed in.
"""

from collections.abc import Container

from essaim.cluster.ids import Chance

QUALITIES = (
    "amber", "bold", "brisk", "calm", "clear", "crisp", "eager", "fair", "gentle", "golden", "keen", "lively",
    "mellow", "nimble", "patient", "quick", "quiet", "sober", "steady", "sunny", "swift", "vivid", "warm", "wise",
)  # fmt: skip
THINGS = (
    "acorn", "aspen", "bee", "birch", "clover", "comb", "drone", "fern", "harbor", "heather", "hive", "island",
    "lantern", "linden", "maple", "meadow", "nectar", "orchard", "otter", "pollen", "river", "swallow", "thistle",
    "willow",
)  # fmt: skip


def random_name(chance: Chance, taken: Container[str | None]) -> str:
    """`quick_otter`, with a number behind it once that is taken."""
    number = chance.getrandbits(32)
    quality, thing = QUALITIES[number % len(QUALITIES)], THINGS[(number >> 8) % len(THINGS)]
    name = plain = f"{quality}_{thing}"
    suffix = 1
    while name in taken:
        name, suffix = f"{plain}{suffix}", suffix + 1
    return name
