-- Utterances that say or sound the same as one. One row per utterance and way of being the same.
with it as (
    select all_utterances.*, measures.samples_hash
    from all_utterances
    left join measures using (utt_id, audio_version)
    where all_utterances.utt_id = $id
    limit 1
),

heard as (
    select measures.utt_id, measures.samples_hash
    from measures
    inner join all_utterances using (utt_id, audio_version)
    where measures.samples_hash in (select samples_hash from it)
)

select 'text' as same, others.utt_id, others.corpus, others.speaker
from all_utterances as others
inner join it using ("language", text_key)
where others.utt_id <> it.utt_id and it.text_norm <> ''
union
select 'audio' as same, others.utt_id, others.corpus, others.speaker
from all_utterances as others
inner join it using (audio_version, offset_s, duration_s)
where others.utt_id <> it.utt_id
union
select 'audio' as same, others.utt_id, others.corpus, others.speaker
from all_utterances as others
inner join heard using (utt_id)
where others.utt_id <> $id
order by same, utt_id
