"""Every audit over a catalog of N utterances (default one million), one after the other: seconds each.

The catalog is made by SQL in a folder that vanishes: sentences of a Zipf-like vocabulary of 50 000
words, one in fifty nearly the same as another, two thousand speakers, four languages of which one
is written without spaces, as many translations as a tenth, units and measures of every utterance.

    python benchmarks/bench_audits.py [--rows 1000000] [--runs 50]
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

from cslm_data.auditing.files import find_files
from cslm_data.auditing.runner import run_audits
from cslm_data.catalog import open_catalog
from cslm_data.workspace import Workspace

TOKENIZER = "mfcc-500-0123456789ab"

_UTTERANCES = """
insert into all_utterances
with numbers as (
    select i, (i % 4) as l, if(i % 50 = 0, greatest(i - 4, 0), i) as base
    from range($rows) as r (i)
),

spoken as (
    select
        i,
        ['en', 'de', 'fr', 'zh'][l + 1] as language,
        case
            when l = 3 then list_aggregate(list_transform(range(15), lambda k: chr((19968 + floor(5000 * pow(hash(base, k) % 100000 / 100000, 3)))::int)), 'string_agg', '')
            else list_aggregate(list_transform(range(10), lambda k: 'w' || md5(floor(50000 * pow(hash(base, k) % 1000000 / 1000000, 3))::varchar)[1:2 + (hash(base, k) % 6)::int]), 'string_agg', ' ')
        end || if(base <> i, if(l = 3, '了', ' end'), '') as text,
    from numbers
)

select
    'utt-' || i, 'corpus' || (i % 7), '/audio/' || (i // 20) || '.flac', (i % 20) * 5.0, 3 + (i % 100) / 50, 16000, 1,
    language, 'speaker' || (i // 500), text, text, hash(text), 'human', 'CC BY 4.0', if(i // 500 % 10 = 0, 'test', 'train'),
    'v' || (i // 20), hash('key', i), 'source', 'source:' || i, i
from spoken
"""

_BITEXT = """
insert into all_bitext
select
    'pair-' || utt_id, 'bitext', 'en', 'zh', text, text || ' x', text_key, hash(text || ' x'), 'CC0', 'train',
    key_hash, 'pairs', place, row_hash
from all_utterances
where row_hash % 10 = 0
"""

_UNITS = """
copy (
    select
        utt_id,
        list_transform(range($runs), lambda k: (hash(utt_id, k) % 250 * 2 + k % 2)::usmallint) as units,
        list_transform(range($runs), lambda k: (1 + hash(utt_id, k, 1) % 3)::usmallint) as durations,
        list_sum(durations)::uinteger as num_frames,
        audio_version,
        null::varchar as reject_reason,
        null::varchar as reject_detail,
    from all_utterances
) to '{path}' (format parquet)
"""

_MEASURES = """
copy (
    select
        utt_id, audio_version, 16000 as sample_rate_hz, 1 as num_channels,
        (duration_s * 16000)::ubigint as num_samples, duration_s as decoded_s, -26.0::double as rms_db,
        0.5::double as peak, 0.0::double as clipped_share, 0.0::double as dc_offset,
        0.1::double as leading_silence_s, 0.1::double as trailing_silence_s,
        0.2::double as silence_share, 30.0::double as snr_db, 7600.0::double as bandwidth_hz,
        md5(utt_id) as samples_hash,
    from all_utterances
) to '{path}' (format parquet)
"""

_LANGUAGES = """
copy (
    select distinct md5_number_lower(text) as text_hash, language, language as detected, 0.99::double as confidence
    from texts
) to '{path}' (format parquet)
"""


def make(workspace: Workspace, *, rows: int, runs: int) -> None:
    """The catalog, its units, measures and detected languages."""
    folder = workspace.units / TOKENIZER
    for path in (folder, workspace.measures, workspace.text_languages, workspace.tokenizers / "m"):
        path.mkdir(parents=True)
    document = {"tokenizer_id": TOKENIZER, "extractor": "mfcc", "num_units": 500}
    text = json.dumps(document | {"frame_rate_hz": 50.0})
    (workspace.tokenizers / "m" / "tokenizer.json").write_text(text)
    with open_catalog(workspace, write=True, doing="benchmark") as db:
        db.execute("set memory_limit = '8GB'")
        db.execute(_UTTERANCES, {"rows": rows})
        db.execute(_BITEXT)
        for query, path in (
            (_UNITS.replace("$runs", str(runs)), folder / "part-0.parquet"),
            (_MEASURES, workspace.measures / "part-0.parquet"),
            (_LANGUAGES, workspace.text_languages / "part-0.parquet"),
        ):
            db.execute(query.replace("{path}", str(path)))


def main() -> None:
    """Print the seconds of each audit, their sum, and the memory of the process."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=50, help="units of an utterance")
    parser.add_argument("--folder", type=Path, default=None, help="where the catalog is made")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        workspace = Workspace(Path(folder) / "workspace")
        started = time.monotonic()
        make(workspace, rows=options.rows, runs=options.runs)
        print(f"catalog of {options.rows:,} utterances: {time.monotonic() - started:.0f} s")
        benchmark = Path(folder) / "benchmark.txt"
        benchmark.write_text("\n".join(f"this is question number {i} of nobody" for i in range(2000)))
        print(f"memory to begin with: {peak_gb():.2f} GB")
        total = 0.0
        for name in find_files(None):
            started = time.monotonic()
            asked = {"against": str(benchmark)} if name.startswith("contaminated") else {}
            if name == "contaminated_units":
                asked = {"against": "corpus6"}
            [result] = run_audits(
                workspace, names=[name], use="commercial", languages=["en", "zh"], **asked
            )
            seconds = time.monotonic() - started
            total += seconds
            outcome = result.skipped or f"{result.count:,} findings"
            print(f"{name:28} {seconds:7.1f} s  peak {peak_gb():.2f} GB  {outcome[:90]}", flush=True)
        print(f"all audits: {total:.0f} s")


def peak_gb() -> float:
    """Largest memory of the process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


if __name__ == "__main__":
    main()
