-- What was refused, with one example. One row per (stage, reason, corpus), the most frequent first.
select
    stage,
    reason,
    corpus,
    count(*) as refused,
    min("key") as example,
    arg_min(detail, "key") as detail,
    count(*) over () as num_groups,
from rejects
group by all
order by refused desc, stage, reason, corpus
limit $max_rows
