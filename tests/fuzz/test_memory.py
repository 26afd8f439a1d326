"""Hostile requests leak neither memory nor descriptors."""

import random
import time

import pytest

from tests.fuzz.amounts import amount, counted
from tests.fuzz.files import drawn, saved
from tests.fuzz.known import undisturbed
from tests.fuzz.requests import DESTRUCTIVE, JSON, MORSELS, request, samples
from tests.fuzz.target import Target

pytestmark = pytest.mark.fuzz

MEGABYTES = 6.0  # from the middle to the end: less than three kilobytes kept of each request
AT_ONCE = 50
ROUND = 500  # requests
OF_THE_POOL = 15  # files of the connections that the database's pool opens when it needs them
OF_OTHERS = 3  # connections: those of the neighbours, which may open one anew
PATIENCE_S = 60.0


def sockets(descriptors: list[str]) -> int:
    return sum(name.startswith("socket:") for name in descriptors)


def rounds(count: int, seed: int) -> list[bytes]:
    """Requests of every kind: most are damaged, some large, all different."""
    chance = random.Random(seed)
    raw = ("Content-Type", "image/png")
    kinds = [
        *samples(),
        request("/predict/image", saved(drawn("RGBA", 400), "PNG"), [raw]),
        request("/predict", b'{"model": "dnn", "inputs": [%b[0,1]]}' % (b"[0,1]," * 4000), [JSON]),
        request("/predict", b"[" * 100_000, [JSON]),
    ]  # fmt: skip
    found: list[bytes] = []
    while len(found) < count:
        data = bytearray(chance.choice(kinds))
        for _ in range(chance.randint(0, 4)):
            at = chance.randrange(len(data))
            if chance.random() < 0.5:
                data[at] = chance.randrange(256)
            else:
                data[at:at] = chance.choice(MORSELS)
        cut = len(data) if chance.random() < 0.7 else chance.randrange(len(data))
        unique = b"X-Request-ID: %x\r\n" % chance.randrange(2**64)  # nothing is to be remembered
        whole = bytes(data[:cut]).replace(b"Host: here\r\n", b"Host: here\r\n" + unique, 1)
        if DESTRUCTIVE.encode() not in whole:
            found.append(whole)
    return found


def attack(target: Target, count: int, seed: int) -> None:
    requests = rounds(count, seed)
    for at in range(0, count, AT_ONCE):
        target.exchange(requests[at : at + AT_ONCE])


def test_thousands_of_hostile_requests_leave_nothing_behind(target: Target) -> None:
    last = amount(12)
    with counted() as count, undisturbed(target):
        attack(target, ROUND, seed=1)  # what is loaded and kept once
        open_before = target.descriptors()
        taken = []
        for seed in range(2, 2 + last):
            attack(target, ROUND, seed)
            count.inputs += ROUND
            target.check()
            taken.append(target.megabytes())
        assert min(taken[-2:]) - min(taken[last // 2 - 1 : last // 2 + 1]) < MEGABYTES, taken
        until = time.monotonic() + PATIENCE_S
        while (
            len(open_now := target.descriptors()) > len(open_before) + OF_THE_POOL
            or sockets(open_now) > sockets(open_before) + OF_OTHERS
        ):
            assert time.monotonic() < until, set(open_now) - set(open_before)
            target.exchange([request("/health/live")], is_due=True)
