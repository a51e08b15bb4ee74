from bench.outbound import measure


async def test_a_later_call_costs_less_than_the_one_that_starts_the_child() -> None:
    found = await measure(3)

    assert 0 < found.later < found.first
    assert 0 < found.private <= found.resident
