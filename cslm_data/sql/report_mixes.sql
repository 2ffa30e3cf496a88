-- Tokens that the samples of a mix have. One row per (split, task, languages).
select
    split,
    task,
    languages,
    count(*) as num_samples,
    sum(num_tokens)::bigint as num_tokens,
from mix_samples
where mix = $mix
group by all
order by split, task, languages
