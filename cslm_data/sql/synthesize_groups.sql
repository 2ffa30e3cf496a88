-- Speech of a job per corpus and language. One row per (corpus, language).
with turns as (
    select corpus, id, reject_reason, unnest(turns) as t
    from spoken
)

select
    corpus,
    t.language as language,
    count(*) filter (where reject_reason is null) as num_texts,
    coalesce(sum(t.duration_s), 0) as seconds,
    count(distinct t.voice) filter (where reject_reason is null) as num_voices,
    count(*) filter (where reject_reason is not null) as num_rejected,
from turns
where t.voice is not null
group by all
order by corpus, language
