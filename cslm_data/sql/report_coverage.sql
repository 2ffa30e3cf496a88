-- Speech and text of each corpus, language and split. One row for each, those with most first.
with speech as (
    select
        corpus,
        language,
        coalesce(split, '') as split,
        sum(duration_s) / 3600 as hours,
        count(*) as utterances,
        count(distinct speaker) as speakers,
        count(text) as transcribed,
    from utterances
    group by all
),

written as (
    select
        corpus,
        language,
        coalesce(split, '') as split,
        count(*) as texts,
        count(distinct text_key) as different_texts,
    from texts
    group by all
)

select
    corpus,
    language,
    split,
    coalesce(hours, 0) as hours,
    coalesce(utterances, 0) as utterances,
    coalesce(speakers, 0) as speakers,
    coalesce(transcribed, 0) as transcribed,
    coalesce(texts, 0) as texts,
    coalesce(different_texts, 0) as different_texts,
    count(*) over () as num_groups,
from speech
full join written using (corpus, language, split)
order by hours desc, texts desc, corpus, language, split
limit $max_rows
