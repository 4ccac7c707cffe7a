"""The order of an epoch: every case once, and the same again from any place on."""

from itertools import islice

from guidino_cli.data.order import EpochSampler, Turn, endless


def _order(seed: int, epoch: int, *, skipped: int = 0) -> list[Turn]:
    sampler = EpochSampler(20, seed=seed)
    sampler.set_epoch(epoch)
    sampler.skipped = skipped
    return list(sampler)


def test_an_epoch_has_every_case_once_and_says_which_epoch_it_is() -> None:
    assert sorted(_order(0, 7)) == [(7, case) for case in range(20)]


def test_the_order_depends_on_seed_and_epoch_only() -> None:
    cases = {name: [turn.case for turn in _order(*name)] for name in ((0, 3), (0, 4), (1, 3))}
    assert cases[0, 3] == [turn.case for turn in _order(0, 3)]
    assert cases[0, 3] != cases[0, 4]
    assert cases[0, 3] != cases[1, 3]


def test_an_epoch_goes_on_where_it_stopped() -> None:
    assert _order(0, 3, skipped=13) == _order(0, 3)[13:]
    assert _order(0, 3, skipped=20) == []


def test_endless_showings_are_whole_epochs_one_after_the_other() -> None:
    turns = list(islice(endless(5, seed=3), 15))
    for epoch in range(3):
        part = turns[5 * epoch : 5 * epoch + 5]
        sampler = EpochSampler(5, seed=3)
        sampler.set_epoch(epoch)
        assert part == list(sampler)


def test_endless_showings_go_on_where_they_were_left() -> None:
    assert list(islice(endless(5, seed=3, start=7), 6)) == list(islice(endless(5, seed=3), 7, 13))
