"""How many threads numpy, FAISS and torch may use: one per process, many processes.

Two threads that share a core spin against each other and lose a factor of ten and more; and sums
whose order depends on the number of threads would make results depend on the machine.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def limit_threads(num_threads: int = 1) -> Iterator[None]:
    """Within the block, every numerical library loaded so far computes with so many threads."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    torch: Any = sys.modules.get("torch")
    faiss: Any = sys.modules.get("faiss")
    before = (torch.get_num_threads() if torch else 0, faiss.omp_get_max_threads() if faiss else 0)
    with threadpool_limits(num_threads):
        try:
            if torch:
                torch.set_num_threads(num_threads)
            if faiss:
                faiss.omp_set_num_threads(num_threads)
            yield
        finally:
            if torch:
                torch.set_num_threads(before[0])
            if faiss:
                faiss.omp_set_num_threads(before[1])
