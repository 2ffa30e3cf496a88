-- title: Recordings of the benchmark in the corpus
-- severity: error
-- why: A model that was trained on its test has no score.
-- fix: cslm-data filter "utt_id in (…)" --reason contamination, and build the mixes again.
-- needs: against

-- One row per utterance of the catalog whose audio file is one of the benchmark's, by fingerprint, or
-- whose decoded samples are (where both are measured).
with own as (
    select utt_id, audio_version
    from utterances
    semi join (select id as utt_id from benchmark_own where table_name = 'utterances') using (utt_id)
),

files as (
    select audio_version, min(benchmark_id) as benchmark_id
    from (
        select audio_version, benchmark_id from benchmark_audio
        union all
        select audio_version, utt_id as benchmark_id from own
    )
    group by audio_version
),

sounds as (
    select measures.samples_hash, min(utt_id) as benchmark_id
    from measures
    inner join own using (utt_id, audio_version)
    group by measures.samples_hash
),

others as (
    select utt_id, corpus, split, audio, audio_version
    from utterances
    anti join own using (utt_id)
),

met as (
    select others.utt_id, files.benchmark_id
    from others
    inner join files using (audio_version)
    union all
    select others.utt_id, sounds.benchmark_id
    from others
    inner join measures using (utt_id, audio_version)
    inner join sounds on measures.samples_hash = sounds.samples_hash
)

select others.utt_id, others.corpus, others.split, min(met.benchmark_id) as benchmark_id, others.audio
from met
inner join others using (utt_id)
group by others.utt_id, others.corpus, others.split, others.audio
order by others.corpus, others.utt_id;
