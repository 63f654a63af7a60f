"""Compiled row loops on a few Python threads (the kernels release the GIL), results in row order whatever the number of threads."""

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
Progress = Callable[[int, int], None]  # (done, of all)


def blocks(total: int, size: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of consecutive blocks that cover 0..total."""
    for start in range(0, total, size):
        yield start, min(start + size, total)


def map_blocks(work: Callable[[int, int], T], total: int, size: int, threads: int) -> Iterator[T]:
    """`work(start, stop)` of every block, yielded in order; at most 2·threads results wait, so memory stays bounded."""
    if threads == 1:
        for start, stop in blocks(total, size):
            yield work(start, stop)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="distreid-rows") as pool:
        waiting: deque[Future[T]] = deque()
        for start, stop in blocks(total, size):
            if len(waiting) == 2 * threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, start, stop))
        while waiting:
            yield waiting.popleft().result()


def run_blocks(work: Callable[[int, int], None], total: int, size: int, threads: int) -> None:
    """`map_blocks` for work that writes its rows in place."""
    for _ in map_blocks(work, total, size, threads):
        pass


def run_slices(work: Callable[[int, int], None], total: int, threads: int) -> None:
    """`run_blocks` with one even slice for each thread."""
    run_blocks(work, total, -(-total // threads), threads)


def peak_memory_bytes() -> int:
    """Largest resident memory this process has had so far, in bytes (0 where the platform does not say)."""
    try:
        import resource
    except ImportError:
        return 0
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes if os.uname().sysname == "Darwin" else kilobytes * 1024
