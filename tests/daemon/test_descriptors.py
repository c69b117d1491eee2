"""The limit of descriptors: raised as far as the kernel permits, and never lowered."""

import resource

from hypothesis import given
from hypothesis import strategies as st

from essaim.daemon.listening.descriptors import ENOUGH, Bounds, raise_limit, wanted

INFINITY = resource.RLIM_INFINITY
NUMBERS = st.one_of(st.integers(16, 2_000_000), st.just(INFINITY))


class Kernel:
    """Refuses to raise the hard limit of whoever is not permitted to."""

    def __init__(self, bounds: Bounds, most: int) -> None:
        self.bounds, self.most = bounds, most

    def get(self, _: int) -> Bounds:
        return self.bounds

    def put(self, _: int, bounds: Bounds) -> None:
        soft, hard = bounds
        if hard != self.bounds[1] and hard > self.most:
            raise ValueError("not allowed to raise maximum limit")
        if hard != INFINITY and soft > hard:
            raise ValueError("current limit exceeds maximum limit")
        self.bounds = bounds


def size(number: int) -> float:
    return float("inf") if number == INFINITY else number


@given(NUMBERS, NUMBERS, st.sampled_from([0, ENOUGH, 1 << 20]))
def test_limit_is_raised_as_far_as_permitted(soft: int, hard: int, most: int) -> None:
    if size(soft) > size(hard):
        soft = hard
    kernel = Kernel((soft, hard), most)
    assert raise_limit(kernel.get, kernel.put) == ((soft, hard), kernel.bounds)
    assert size(kernel.bounds[0]) >= size(soft)
    assert size(kernel.bounds[1]) >= size(hard)
    if size(hard) >= ENOUGH or most == 0:
        assert kernel.bounds[1] == hard
    else:
        assert kernel.bounds == (ENOUGH, ENOUGH)
    assert size(kernel.bounds[0]) >= min(size(kernel.bounds[1]), ENOUGH)
    assert wanted(kernel.bounds) == [] or most == 0
