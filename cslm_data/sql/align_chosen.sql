-- The speech that is to be aligned, of some languages and corpora (null: of all), and which of it has
-- words with times of another aligner or from its corpus. One row per utterance.
create or replace temp table chosen as
with timed as (
    select distinct utt_id
    from alignments
    where len(words) > 0 and aligner_id <> $aligner
)

select
    utterances.utt_id,
    utterances.audio,
    utterances.offset_s,
    utterances.duration_s,
    utterances.language,
    utterances.audio_version,
    utterances."text",
    utterances.key_hash as place,
    timed.utt_id is not null as is_timed,
from utterances
left join timed using (utt_id)
where
    ($languages is null or utterances.language in (select unnest($languages)))
    and ($corpora is null or utterances.corpus in (select unnest($corpora)))
