-- Utterances and the sound that makes two of them the same: the hash of the decoded samples where it
-- was measured, else the same stretch of recordings with one fingerprint. Where one of two utterances
-- of such a stretch was measured, its hash stands for both. One row per utterance.
with rows as (
    select
        utt_id,
        corpus,
        language,
        speaker,
        duration_s,
        key_hash,
        measures.snr_db,
        measures.samples_hash,
        concat_ws('|', audio_version, offset_s, duration_s) as stretch,
    from utterances
    left join measures using (utt_id, audio_version)
),

known as (
    select stretch, any_value(samples_hash) as samples_hash
    from rows
    where samples_hash is not null
    group by stretch
    having count(distinct samples_hash) = 1
)

select
    rows.utt_id as id,
    coalesce(rows.samples_hash, known.samples_hash, rows.stretch) as content,
    rows.corpus,
    rows.language,
    rows.speaker,
    rows.duration_s,
    rows.key_hash,
    rows.snr_db,
from rows
left join known using (stretch)
