-- title: The same sound twice
-- severity: warning
-- why: It is one recording under two names: counted twice, and two transcripts of it may disagree.
-- fix: Keep one of each: cslm-data dedup, or cslm-data filter "utt_id = '…'" --reason duplicate_audio.

-- One row per sound. By the hash of the decoded samples where they are measured, else by the file's
-- fingerprint and the stretch of it.
with places as (
    select
        utterances.audio_version,
        utterances.offset_s,
        utterances.duration_s,
        max(measures.samples_hash) as samples_hash,
        list(utterances.utt_id) as ids,
        list(utterances.corpus) as corpora,
        list(utterances.text_key) as text_keys,
    from utterances
    left join measures using (utt_id, audio_version)
    group by utterances.audio_version, utterances.offset_s, utterances.duration_s
),

sounds as (
    select
        flatten(list(ids)) as ids,
        flatten(list(corpora)) as corpora,
        flatten(list(text_keys)) as text_keys,
    from places
    group by coalesce(samples_hash, concat_ws(' ', audio_version, offset_s, duration_s))
    having sum(len(ids)) > 1
)

select
    len(ids) as utterances,
    list_sort(list_distinct(corpora)) as corpora,
    len(list_distinct(text_keys)) as transcripts,
    list_sort(ids) as utt_ids,
from sounds
order by utterances desc, list_sort(ids)[1];
