-- How many utterances lie in each bin of a measure. One row per (measure, label, bin) that has any.
-- What lies beyond the first or the last bin counts there. A bin begins at first + bin · step.
with bins as (
    select unnest($bins, recursive := true)
)

select
    measure,
    report_languages.label,
    -- The small number: a value on an edge, as a float32 a hair below it, belongs above.
    greatest(0, least(bins.num_bins - 1, floor((value - bins.first) / bins.step + 1e-5)))::integer as bin,
    count(*) as num_values,
from report_values
inner join bins using (measure)
inner join report_languages using (language)
group by all
order by measure, label, bin
