"""Scoring in several processes; if one dies, only the case that it was scoring fails."""

import multiprocessing
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from guidino_cli.evaluation.cases import Pair
from guidino_cli.evaluation.scoring import failed_case, score_case
from guidino_cli.evaluation.types import CaseResult, ScoringConfig
from guidino_cli.processes import keep_freed_memory, usable_cpus

_CHUNK_SIZE = 8
_MIN_PAIRS = 400
"""Pairs of images below which starting processes costs more than it saves."""

Chunk = Sequence[Pair]


def choose_worker_count(requested: int | None, pairs: int, *, volumes: bool) -> int:
    """Number of processes: as requested, else one for few images and at most four for many images or volumes."""
    if requested is not None:
        return max(1, min(requested, pairs))
    min_pairs = 4 if volumes else _MIN_PAIRS
    return 1 if pairs < min_pairs else min(4, usable_cpus())


def score_cases(pairs: Sequence[Pair], config: ScoringConfig, *, workers: int) -> Iterator[CaseResult]:
    """Score pairs in order.

    With one worker, pairs are scored in this process. With more, only a few chunks are submitted at a time, so that
    memory does not grow with the number of pairs.

    Raises:
        UnexpectedValueError: A mask contains a value that was unknown when its reader was made.
    """
    if workers <= 1:
        keep_freed_memory()
        for pair in pairs:
            yield score_case(pair, config)
        return
    chunks = deque(pairs[start : start + _CHUNK_SIZE] for start in range(0, len(pairs), _CHUNK_SIZE))
    while chunks:
        # A pool that lost a process is unusable: its current chunk is scored one by one, then a new pool continues.
        yield from _score_until_broken(chunks, config, workers)
        if chunks:
            yield from _score_one_by_one(deque(chunks.popleft()), config)


def _score_until_broken(chunks: deque[Chunk], config: ScoringConfig, workers: int) -> Iterator[CaseResult]:
    """Score chunks and remove them from the queue; stop without an error when a process dies."""
    # Spawned processes inherit no threads or locks, and work the same on every system.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=keep_freed_memory) as pool:
        running: deque[Future[list[CaseResult]]] = deque()
        waiting = deque(chunks)
        try:
            while running or waiting:
                while waiting and len(running) < 2 * workers:
                    running.append(pool.submit(_score_chunk, waiting.popleft(), config))
                results = running.popleft().result()
                chunks.popleft()
                yield from results
        except BrokenProcessPool:
            return
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _score_one_by_one(pairs: deque[Pair], config: ScoringConfig) -> Iterator[CaseResult]:
    """Score pairs one at a time in another process, to find the one that kills it."""
    while pairs:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            try:
                while pairs:
                    result = pool.submit(score_case, pairs[0], config).result()
                    pairs.popleft()
                    yield result
            except BrokenProcessPool:
                yield failed_case(pairs.popleft(), config, "the process that scored it died (out of memory?)")


def _score_chunk(chunk: Chunk, config: ScoringConfig) -> list[CaseResult]:
    return [score_case(pair, config) for pair in chunk]
