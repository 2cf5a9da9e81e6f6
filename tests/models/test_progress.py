"""A stage of hours leaves lines in a log file: what is done, the rate and the time that is left."""

from __future__ import annotations

from molsaki.models.progress import ProgressLines


def lines_of(calls: list[tuple[float, int]], total: int = 100) -> list[str]:
    said: list[str] = []
    times = iter([0.0, *(time for time, _ in calls)])
    lines = ProgressLines(said.append, "rationales", "texts", every=30.0, clock=lambda: next(times))
    for _, done in calls:
        lines(done, total)
    return said


def test_a_line_comes_every_so_often_not_with_every_batch() -> None:
    assert lines_of([(float(second), second) for second in range(1, 95)]) == [
        "rationales: 30 of 100 texts, 1 texts a second, 70 s left",
        "rationales: 60 of 100 texts, 1 texts a second, 40 s left",
        "rationales: 90 of 100 texts, 1 texts a second, 10 s left",
    ]


def test_the_rate_does_not_count_what_an_earlier_run_did() -> None:
    assert lines_of([(10.0, 50), (40.0, 65)]) == ["rationales: 65 of 100 texts, 0.5 texts a second, 70 s left"]


def test_a_high_rate_has_no_exponent() -> None:
    assert lines_of([(10.0, 0), (40.0, 4500)], total=9000) == [
        "rationales: 4500 of 9000 texts, 150 texts a second, 30 s left"
    ]


def test_nothing_done_has_no_rate() -> None:
    assert lines_of([(10.0, 0), (40.0, 0)]) == ["rationales: 0 of 100 texts"]
