-- What an export takes of one split; without units where an utterance has none that are up to date.
-- One row per utterance.
with encoded as (
    select
        utt_id,
        audio_version,
        units,
        durations,
    from units
    where tokenizer_id = $tokenizer_id
)

select
    utterances.utt_id,
    utterances.corpus,
    utterances.audio,
    utterances.offset_s,
    utterances.duration_s,
    encoded.units,
    encoded.durations,
from utterances
left join encoded using (utt_id, audio_version)
where coalesce(utterances.split, 'all') = $split
    and ($languages is null or list_contains($languages, utterances.language))
    and utterances.utt_id in (select utt_id from utterances where ({where}))
order by utterances.utt_id
