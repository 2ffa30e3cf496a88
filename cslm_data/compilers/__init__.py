"""Turns of a source → segments of a sample, one compiler per task. Pure functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cslm_data.compilers.chain import compile_s2s, compile_s2st, compile_s2t, compile_t2s
from cslm_data.compilers.tasks import (
    compile_asr,
    compile_continuation,
    compile_instruct,
    compile_mt,
    compile_st,
    compile_tts,
)
from cslm_data.compilers.turns import CompileOptions, SourceTurn
from cslm_data.records import Segment

Compiler = Callable[[Sequence[SourceTurn], int, CompileOptions], tuple[Segment, ...]]
"""Turns, hash of the sample, options → segments. Raises CompileError."""

COMPILERS: dict[str, Compiler] = {
    "asr": compile_asr,
    "tts": compile_tts,
    "mt": compile_mt,
    "st": compile_st,
    "s2st": compile_s2st,
    "continuation": compile_continuation,
    "instruct": compile_instruct,
    "s2s": compile_s2s,
    "s2t": compile_s2t,
    "t2s": compile_t2s,
}
