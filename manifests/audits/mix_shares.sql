-- Tokens of each mix per split, task and languages. One row per (mix, split, task, languages).
-- Tokens are text tokens, deduplicated units and controls: what a model trains on.
select
    mix,
    split,
    task,
    languages,
    count(*) as samples,
    sum(num_tokens) as tokens,
    round(sum(num_tokens) / sum(sum(num_tokens)) over (partition by mix, split), 4) as share,
from mix_samples
group by all
order by mix, split, task, languages;
