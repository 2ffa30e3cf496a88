-- Order statistics of each measure. One row per (measure, language), and one of all languages (null), which is the
-- first. Of each measure those $max_languages that have most values.
select
    measure,
    language,
    count(*) as num_values,
    min(value)::double as smallest,
    avg(value)::double as mean,
    max(value)::double as largest,
    quantile_disc(value, [0.005, 0.01, 0.5, 0.99, 0.995])::double[] as quantiles,
from report_values
group by grouping sets ((measure, language), (measure))
qualify row_number() over (partition by measure order by num_values desc, language nulls first) <= $max_languages + 1
order by measure, num_values desc, language nulls first
