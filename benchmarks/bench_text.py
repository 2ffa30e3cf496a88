"""A column of transcripts → comparable forms: by characters of the whole column, and row by row.

Both sides get the same made English transcripts without digits, and their results are compared
before anything is timed. The rate in rows per second is printed beside the ratio.
"""

from __future__ import annotations

import argparse
import random

import pyarrow as pa
from paired import cpu_s, median_ratio, report

from cslm_data.text import normalise, normalise_column

BAR = 8.0


def make_transcripts(num_rows: int) -> list[str]:
    """Sentences of three to fourteen words with capitals, commas and apostrophes."""
    draw = random.Random(0)
    sentence = "the train isn't late today because nobody's bridge over old rivers was closed"
    words = sentence.split()
    return [
        f"{', '.join(draw.choices(words, k=draw.randrange(1, 3)))} "
        f"{' '.join(draw.choices(words, k=draw.randrange(2, 12)))}.".capitalize()
        for _ in range(num_rows)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    texts = make_transcripts(options.rows)
    column = pa.array(texts)
    one_by_one = [normalise(text, "en") for text in texts]
    assert normalise_column(column, "en").to_pylist() == one_by_one
    seconds = min(cpu_s(lambda: normalise_column(column, "en")) for _ in range(3))
    print(f"{options.rows / seconds:.0f} rows a CPU second")
    ratio = median_ratio(
        lambda: normalise_column(column, "en"),
        lambda: [normalise(text, "en") for text in texts],
        rounds=options.rounds,
    )
    report("comparable forms of a column, against row by row", ratio, BAR)


if __name__ == "__main__":
    main()
