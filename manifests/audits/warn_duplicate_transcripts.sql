-- Sentences spoken many times by the same speaker. One row per (language, speaker, sentence).
-- Harmless in isolated-word corpora; elsewhere often the same recording twice.
select
    language,
    speaker,
    text_norm,
    count(*) as utterances,
    min(utt_id) as example,
from utterances
where text_norm <> ''
group by all
having count(*) > 3
order by utterances desc, language, speaker, text_norm
limit 100;
