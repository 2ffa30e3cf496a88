-- Hours, utterances and speakers per corpus and language. One row per (corpus, language).
-- Read it first: what is thin here is thin in every mix.
select
    corpus,
    language,
    count(*) as utterances,
    count(distinct speaker) as speakers,
    count(text) as transcribed,
    round(sum(duration_s) / 3600, 4) as hours,
from utterances
group by all
order by corpus, language;
