-- The languages that plots tell apart: those with most speech, `label` is one of them or `other`.
create or replace temp table report_languages as
with ranked as (
    select
        language,
        row_number() over (order by sum(duration_s) desc, language) as place,
        count(*) over () as num_languages,
    from utterances
    group by language
)

select
    language,
    case when num_languages <= $max_labels or place < $max_labels then language else 'other' end as label,
    case when num_languages <= $max_labels or place < $max_labels then place else $max_labels end as place,
from ranked
