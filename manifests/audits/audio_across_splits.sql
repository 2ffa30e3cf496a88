-- title: The same sound in train and in a held-out split
-- severity: error
-- why: A model tested on a recording that it was trained on says nothing of what it has learnt.
-- fix: Move it out of train: cslm-data filter "utt_id = '…'" --reason split_leak.

-- One row per sound. By the hash of the decoded samples where they are measured, else by the file's
-- fingerprint and the stretch of it. A corpus without splits counts as train.
with places as (
    select
        utterances.audio_version,
        utterances.offset_s,
        utterances.duration_s,
        max(measures.samples_hash) as samples_hash,
        list(utterances.utt_id) as ids,
        list(utterances.corpus || ' ' || coalesce(utterances.split, 'no split')) as names,
        list(split_kind(utterances.split)) as kinds,
    from utterances
    left join measures using (utt_id, audio_version)
    group by utterances.audio_version, utterances.offset_s, utterances.duration_s
),

sounds as (
    select
        flatten(list(ids)) as ids,
        flatten(list(names)) as names,
        flatten(list(kinds)) as kinds,
    from places
    group by coalesce(samples_hash, concat_ws(' ', audio_version, offset_s, duration_s))
    having sum(len(ids)) > 1
)

select list_sort(list_distinct(names)) as places, list_sort(ids) as utt_ids
from sounds
where list_contains(kinds, 'train') and len(list_distinct(kinds)) > 1
order by list_sort(ids)[1];
