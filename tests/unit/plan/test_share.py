"""Shares as a plan says them and as somebody types them."""

from dataclasses import replace

import pytest

from mvmnix.formats import strict
from mvmnix.plan.backend import Backend
from mvmnix.plan.share import Access, Danger, Share, acknowledged, check, from_record, to_json

SHARE = Share("/srv/data", "/data")


def again(shares: tuple[Share, ...]) -> tuple[Share, ...]:
    return strict.read({"shares": to_json(shares)} if shares else {}, "plan", from_record)


def test_what_is_written_is_read_again() -> None:
    shares = (
        SHARE,
        Share("/srv/out", "/out", Access.READ_WRITE, acknowledged=(Danger.HOME, Danger.STATE)),
        Share("/srv/set", "/set", follow=True),
    )
    assert again(shares) == shares
    assert again(()) == ()
    assert to_json((SHARE,)) == [{"host": "/srv/data", "guest": "/data", "access": "read-only"}], "and no more"


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("/srv/data:/data", SHARE),
        ("/srv/data:/data:ro", SHARE),
        ("/srv/data:/data:rw", replace(SHARE, access=Access.READ_WRITE)),
        ("/srv/data:/data:ro,follow", replace(SHARE, follow=True)),
        ("/:/data:acknowledge=root-directory", Share("/", "/data", acknowledged=(Danger.ROOT,))),
    ],
)
def test_typed(text: str, share: Share) -> None:
    assert Share.parse(text) == share
    assert Share.parse(share.typed) == share


@pytest.mark.parametrize(
    "text",
    [
        *("", "/srv", "/srv:", ":/data", "srv:/data", "/srv:data", "/srv:/", "/srv/:/data", "/srv/../etc:/data"),
        *("/srv:/data/..", "/srv:/proc", "/srv:/sys/x", "/srv:/dev/shm", "/srv:/run/secrets", "/srv:/da\nta"),
        *("/srv:/data:rw,follow", "/srv//x:/data", "/s\x1bv:/data"),
        *("/srv:/data:rw,ro", "/srv:/data:ro,rw", "/srv:/data:rw,rw", "/srv:/data:ro,follow,follow"),
        *("/srv://data", "/srv://proc", "//srv:/data"),
        *("/" + "x" * 1024 + ":/data", "/srv:/" + "x" * 1024),
    ],
)
def test_what_is_no_share(text: str) -> None:
    told = "not a share" if "" in text.partition(":")[::2] else r".+"
    with pytest.raises(ValueError, match=told):
        Share.parse(text)


@pytest.mark.parametrize("word", ["rx", "acknowledge=all", "acknowledge=", "acknowledge", "root-directory", "RO"])
def test_what_is_no_word(word: str) -> None:
    with pytest.raises(ValueError, match="is none of ro, rw, follow, acknowledge=root-directory"):
        Share.parse(f"/srv:/data:{word}")


def test_how_long_its_paths_may_be() -> None:
    longest = Share("/" + "x" * 1023, "/" + "y" * 1023)
    assert Share.parse(longest.typed) == longest
    assert again((longest,)) == (longest,)
    with pytest.raises(ValueError, match="at most 1024 plain characters"):
        replace(longest, host=longest.host + "x")


@pytest.mark.parametrize("other", ["/data", "/data/in/it"])
def test_no_share_lies_over_another(other: str) -> None:
    beside = Share("/srv/other", "/data-too")
    check((SHARE, beside), Backend.QEMU)
    with pytest.raises(ValueError, match="within another"):
        check((Share("/srv/other", other), beside, SHARE), Backend.QEMU)


def test_not_more_than_a_plan_may_name() -> None:
    many = tuple(Share("/srv", f"/data/{number}") for number in range(8))
    check(many, Backend.QEMU)
    assert again(many) == many
    with pytest.raises(ValueError, match="more than 8 shares"):
        check((*many, SHARE), Backend.QEMU)
    with pytest.raises(strict.MalformedError, match="shares"):
        strict.read({"shares": to_json((*many, SHARE))}, "plan", from_record)
    with pytest.raises(strict.MalformedError, match="some were announced"):
        strict.read({"shares": []}, "plan", from_record)


@pytest.mark.parametrize("backend", [it for it in Backend if it is not Backend.QEMU])
def test_other_backends_share_nothing(backend: Backend) -> None:
    check((), backend)
    with pytest.raises(ValueError, match=str(backend)):
        check((SHARE,), backend)


@pytest.mark.parametrize(
    "change",
    [
        {"access": "read"},
        {"follow": 1},
        {"acknowledge": ["everything"]},
        {"acknowledge": ["mvm-state", "home-directory"]},
        {"acknowledge": ["home-directory", "home-directory"]},
        {"host": "srv"},
        {"more": True},
    ],
)
def test_a_plan_that_says_something_else_is_none(change: dict[str, object]) -> None:
    with pytest.raises(strict.MalformedError):
        strict.read({"shares": [{**to_json((SHARE,))[0], **change}]}, "plan", from_record)


def test_the_log_is_told_of_consent() -> None:
    assert acknowledged((SHARE,)) == ()
    two = (replace(SHARE, acknowledged=(Danger.HOME,)), replace(SHARE, acknowledged=(Danger.SOCKET, Danger.HOME)))
    assert acknowledged(two) == ("acknowledged-daemon-socket", "acknowledged-home-directory")
