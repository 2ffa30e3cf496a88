-- title: Spoken answers without word times
-- severity: warning
-- why: They cannot be interleaved with their text, so no chat sample is made of them.
-- fix: Align them with `cslm-data align`, or ingest alignments: see docs/formats.md.

-- One row per (corpus, language).
with aligned as (
    select distinct utt_id from alignments where words is not null
)

select
    dialogue_turns.corpus,
    dialogue_turns.language,
    count(*) as answers,
    sum(utterances.duration_s) / 3600 as hours,
    min(dialogue_turns.utt_id) as example,
from dialogue_turns
inner join utterances using (utt_id)
anti join aligned using (utt_id)
where dialogue_turns.role = 'assistant'
group by dialogue_turns.corpus, dialogue_turns.language
order by dialogue_turns.corpus, dialogue_turns.language;
