-- What was refused, with one example; what a person moved out is told elsewhere. One row per (stage,
-- reason, corpus), the most frequent first.
select
    stage,
    reason,
    corpus,
    count(*) as refused,
    min("key") as example,
    arg_min(detail, "key") as detail,
    count(*) over () as num_groups,
from rejects
where stage not in ('filter', 'dedup')
group by all
order by refused desc, stage, reason, corpus
limit $max_rows
