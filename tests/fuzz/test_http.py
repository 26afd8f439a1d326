"""HTTP as nobody should send it: every connection is answered or closed, and nobody else suffers."""

import json
import random
import time

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.fuzz.amounts import amount, scored, tries
from tests.fuzz.known import Known, undisturbed
from tests.fuzz.requests import DESTRUCTIVE, JSON, NATIVE, mutated, request, samples
from tests.fuzz.target import Target, responses
from tests.service.admin import AS_ADMIN

pytestmark = pytest.mark.fuzz

AT_ONCE = 12  # connections

hostile = mutated(st.sampled_from(samples())).filter(lambda data: DESTRUCTIVE.encode() not in data)


@pytest.fixture(scope="module")
def known() -> Known:
    return Known(1)


def test_mutated_requests_are_answered_or_closed_and_break_nothing(
    target: Target, known: Known
) -> None:
    with scored("mutated HTTP requests") as count, undisturbed(target):

        @tries(150)
        @given(st.lists(hostile, min_size=1, max_size=AT_ONCE))
        def attack(requests: list[bytes]) -> None:
            count.inputs += len(requests)
            for sent, answer in zip(requests, target.exchange(requests), strict=True):
                is_head = b"HEAD" in sent
                for response in [] if is_head else responses(answer):
                    assert response.status < 500, (sent, response)
            with httpx.Client(base_url=target.url, headers=AS_ADMIN, timeout=60) as client:
                known.ask(client)
            target.check()

        attack()
