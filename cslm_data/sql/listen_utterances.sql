-- What is needed to listen to some utterances; without units where one has none of this tokenizer,
-- with those of an older recording where it has no others. One row per utterance found.
with spoken as (
    select
        utt_id,
        audio_version,
        units,
        durations,
    from units
    where tokenizer_id = $tokenizer_id and utt_id in (select unnest($utt_ids))
),

aligned as (
    select utt_id, words
    from alignments
    where utt_id in (select unnest($utt_ids)) and words is not null
    qualify row_number() over (partition by utt_id order by aligner_id <> 'imported', aligner_id) = 1
)

select
    utterances.utt_id,
    utterances.audio,
    utterances.offset_s,
    utterances.duration_s,
    utterances.language,
    utterances.text,
    utterances.audio_version,
    spoken.units,
    spoken.durations,
    spoken.audio_version as units_version,
    aligned.words,
from utterances
left join spoken using (utt_id)
left join aligned using (utt_id)
where utterances.utt_id in (select unnest($utt_ids))
qualify row_number() over (
    partition by utterances.utt_id
    order by spoken.audio_version = utterances.audio_version desc nulls last
) = 1
