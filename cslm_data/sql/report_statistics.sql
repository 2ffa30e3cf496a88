-- Order statistics of each measure. One row per (measure, language), and one of all languages (null).
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
order by measure, language nulls first
