"""How many threads numpy, FAISS and torch may use: one per process, many processes.

Two threads that share a core spin against each other and lose a factor of ten and more; and sums
whose order depends on the number of threads would make results depend on the machine.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


def set_threads(num_threads: int) -> None:
    """From here on every numerical library loaded so far computes with so many threads."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    threadpool_limits(num_threads)
    _set_libraries(num_threads, num_threads)


@contextlib.contextmanager
def limit_threads(num_threads: int = 1) -> Iterator[None]:
    """The same within a block only; after it the threads are as they were."""
    from threadpoolctl import threadpool_limits

    torch: Any = sys.modules.get("torch")
    faiss: Any = sys.modules.get("faiss")
    before = (torch.get_num_threads() if torch else 1, faiss.omp_get_max_threads() if faiss else 1)
    with threadpool_limits(num_threads):
        try:
            _set_libraries(num_threads, num_threads)
            yield
        finally:
            _set_libraries(*before)


def _set_libraries(torch_threads: int, faiss_threads: int) -> None:
    torch: Any = sys.modules.get("torch")
    faiss: Any = sys.modules.get("faiss")
    if torch:
        torch.set_num_threads(torch_threads)
    if faiss:
        faiss.omp_set_num_threads(faiss_threads)
