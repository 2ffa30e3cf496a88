-- Spoken answers without word times: they cannot be interleaved. One row per (corpus, language).
-- Ingest alignments for them; see docs/formats.md.
select dialogue_turns.corpus, dialogue_turns.language, count(*) as answers, min(dialogue_turns.utt_id) as example
from dialogue_turns
left join alignments on dialogue_turns.utt_id = alignments.utt_id and alignments.words is not null
where
    dialogue_turns.role = 'assistant'
    and dialogue_turns.utt_id is not null
    and alignments.utt_id is null
group by all
order by dialogue_turns.corpus, dialogue_turns.language;
