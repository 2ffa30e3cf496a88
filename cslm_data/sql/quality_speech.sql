-- How much speech the report is about, and how much of it has phones. One row per language.
-- Needs the table `shared_utterances`.
with phones as (
    select distinct utt_id
    from alignments
    where len(phones) > 0
)

select
    shared_utterances.language,
    count(*) as num_utterances,
    count(phones.utt_id) as num_with_phones,
from shared_utterances
left join phones using (utt_id)
group by all
order by shared_utterances.language
