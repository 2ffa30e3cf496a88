-- Sentences that are held out, 1 to validate and 2 to test. One row per sentence. Those that `linked`
-- holds were split with what they hang together with; any other by its own hash.
with said as (
    select text_key as sentence, corpus
    from utterances
    where text_key is not null
    union all
    select t.text_key as sentence, corpus
    from dialogues, unnest(turns) as u(t)
    where t.text_key is not null
    union all
    select src_key as sentence, corpus
    from bitext
    where src_key = tgt_key
    union all
    select key_hash as sentence, corpus
    from utterances
    where text_key is null
),

drawn as (
    select
        sentence,
        case
            when list_contains($test_corpora, corpus) then 2
            when list_contains($valid_corpora, corpus) then 1
            when mix64(sentence, $added)::double / 18446744073709551616.0 < $test then 2
            when mix64(sentence, $added)::double / 18446744073709551616.0 < $test + $valid then 1
        end as split,
    from said
)

select sentence, max(split)::utinyint as split
from drawn
anti join linked using (sentence)
where split is not null
group by sentence
union all
select sentence, split
from linked
where split > 0
