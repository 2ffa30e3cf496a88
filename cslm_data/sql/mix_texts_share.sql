-- Up to which hash texts are taken, to have about $most of them; all where there are no more. One row.
with numbers as (
    select
        (select count(*) from utterances)
        + 2 * (select count(*) from bitext)
        + coalesce((select sum(len(turns)) from dialogues), 0) as num_texts,
)

select (18446744073709551615::uhugeint * $most::uhugeint // greatest(num_texts, $most)::uhugeint)::ubigint as threshold
from numbers
