-- How much speech each language has. One row per language.
select
    language,
    count(*) as num_utterances,
    sum(duration_s) as seconds,
from utterances
group by language
order by language
