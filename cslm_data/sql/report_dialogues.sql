-- Dialogues of each corpus, language and split; an instruction is one. One row for each, the largest first.
select
    corpus,
    language,
    coalesce(split, '') as split,
    count(*) as dialogues,
    sum(len(turns))::bigint as turns,
    sum(len(list_filter(turns, lambda t: t.audio is not null)))::bigint as spoken_turns,
    count(distinct parallel_id) as parallel_ids,
    count(*) over () as num_groups,
from dialogues
group by all
order by dialogues desc, corpus, language, split
limit $max_rows
