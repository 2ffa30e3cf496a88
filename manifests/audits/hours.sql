-- title: Hours, utterances and speakers per corpus and language
-- severity: info
-- why: What is thin here is thin in every mix.
-- fix: Ingest more where it is needed: cslm-data ingest SOURCE.

-- One row per (corpus, language).
select
    corpus,
    language,
    count(*) as utterances,
    count(distinct speaker) as speakers,
    count(text) as transcribed,
    sum(duration_s) / 3600 as hours,
from utterances
group by corpus, language
order by corpus, language;
