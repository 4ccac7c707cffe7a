"""Score pairs in several processes; a process that dies costs the case that killed it, nothing else."""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from guidino_cli.evaluation.cases import Pair
from guidino_cli.evaluation.scoring import failed_case, score_case
from guidino_cli.evaluation.types import CaseResult, ScoringConfig
from guidino_cli.processes import keep_freed_memory

_CHUNK = 8
_FEWEST = 400
"""Pairs of images below which starting processes costs more than it saves."""

Chunk = Sequence[Pair]


def choose_worker_count(asked: int | None, pairs: int, *, volumes: bool) -> int:
    """Processes to use: as asked; else one for a small folder of images, at most four for a large one or volumes."""
    if asked is not None:
        return max(1, min(asked, pairs))
    few = 4 if volumes else _FEWEST
    return 1 if pairs < few else min(4, os.cpu_count() or 1)


def score_cases(pairs: Sequence[Pair], config: ScoringConfig, *, workers: int) -> Iterator[CaseResult]:
    """Score pairs in order.

    With one worker everything happens in this process. With more, only a few chunks are under way at a time, so memory
    does not grow with the number of pairs.

    Raises:
        SurpriseError: A mask holds a value unknown when the reading rule was made.
    """
    if workers <= 1:
        keep_freed_memory()
        for pair in pairs:
            yield score_case(pair, config)
        return
    chunks = deque(pairs[start : start + _CHUNK] for start in range(0, len(pairs), _CHUNK))
    while chunks:
        # A pool that lost a process is of no further use: what it owed is scored one by one, then a new pool goes on.
        yield from _until_broken(chunks, config, workers)
        if chunks:
            yield from _one_by_one(deque(chunks.popleft()), config)


def _until_broken(chunks: deque[Chunk], config: ScoringConfig, workers: int) -> Iterator[CaseResult]:
    """Results of the leading chunks, which are removed; stops early, without an error, when a process dies."""
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


def _one_by_one(pairs: deque[Pair], config: ScoringConfig) -> Iterator[CaseResult]:
    """Score pairs in one other process, one after the other, so that it is plain which of them ends it."""
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
