-- Sentences of corpora that are held out as a whole, 1 to validate and 2 to test. One row per sentence.
with said as (
    select text_key as sentence, corpus
    from utterances
    union all
    select unnest([src_key, tgt_key]) as sentence, corpus
    from bitext
    union all
    select t.text_key as sentence, corpus
    from dialogues, unnest(turns) as u(t)
)

select
    sentence,
    max(case when list_contains($test_corpora, corpus) then 2 else 1 end)::utinyint as split,
from said
where
    sentence is not null
    and (list_contains($test_corpora, corpus) or list_contains($valid_corpora, corpus))
group by sentence
