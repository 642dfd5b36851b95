"""So many at once, and so many in a second."""

from mvmnix.network.token_bucket import TokenBucket


def test_tokens_come_back_up_to_the_burst() -> None:
    now = 10.0
    bucket = TokenBucket(2, 3, lambda: now)

    def taken() -> int:
        return sum(bucket.take() for _ in range(9))

    assert taken() == 3
    now += 0.4
    assert taken() == 0
    now += 0.1
    assert taken() == 1
    now += 1000
    assert taken() == 3
