-- Units and phones of the utterances that have both, in keyed order, per language no more than
-- $max_utterances; of several aligners' phones those of the first by name. One row per utterance.
-- Needs the table `shared_utterances`.
with phones as (
    select utt_id, arg_min(phones, aligner_id) as phones
    from alignments
    where len(phones) > 0
    group by utt_id
),

sample as (
    select
        shared_utterances.*,
        phones.phones,
        row_number() over (
            partition by shared_utterances.language
            order by shared_utterances.place, shared_utterances.utt_id
        ) as number,
    from shared_utterances
    inner join phones using (utt_id)
)

select
    sample.utt_id,
    sample.language,
    sample.corpus,
    sample.speaker,
    units.units,
    units.durations,
    [phone.phone for phone in sample.phones] as phones,
    [phone.start_s for phone in sample.phones] as starts_s,
    [phone.end_s for phone in sample.phones] as ends_s,
from sample
inner join units using (utt_id, audio_version)
where sample.number <= $max_utterances and units.tokenizer_id = $tokenizer_id
order by sample.language, sample.number
