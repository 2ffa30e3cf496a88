-- title: Tokens of each mix per split, task and languages
-- severity: info
-- why: Tokens are text tokens, deduplicated units and controls: what a model trains on.
-- fix: Weights are in the recipe: cslm-data build-mix --recipe FILE.
-- needs: mix

-- One row per (mix, split, task, languages).
with groups as (
    select mix, split, task, languages, count(*) as samples, sum(num_tokens) as tokens
    from mix_samples
    group by all
)

select
    mix,
    split,
    task,
    languages,
    samples,
    tokens,
    round(tokens / sum(tokens) over (partition by mix, split), 4) as share,
from groups
order by mix, split, task, languages;
