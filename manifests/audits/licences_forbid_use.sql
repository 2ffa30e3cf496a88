-- title: Licences that forbid the use
-- severity: error
-- why: What a model learns from may bind the model. This reads the words of the licence as the corpus
--   gives them; it is no legal advice.
-- fix: Leave the corpus out: cslm-data filter "corpus = '…'" --reason licence.
-- needs: use

-- One row per (corpus, licence) and use that it forbids.
with patterns as (
    select use, what, pattern
    from (values
        ('commercial', 'non-commercial', 'non[- ]?commercial|not for commercial|\bnc\b'),
        ('commercial', 'research only', 'research[- ](use |purposes? )?only|only for research|for research|research use|non-?profit|academic'),
        ('commercial', 'all rights reserved', 'all rights reserved|proprietary|confidential|internal use'),
        ('research', 'all rights reserved', 'all rights reserved|confidential|internal use')
    ) as rows (use, what, pattern)
),

held as (
    select corpus, license, 1 as num_rows, duration_s from utterances
    union all
    select corpus, license, 1 as num_rows, 0 as duration_s from bitext
    union all
    select corpus, license, 1 as num_rows, 0 as duration_s from dialogues
),

licences as (
    select corpus, license, sum(num_rows) as num_rows, sum(duration_s) / 3600 as hours
    from held
    where license is not null
    group by corpus, license
)

select
    licences.corpus,
    licences.license,
    list_sort(list(distinct patterns.what)) as because,
    any_value(licences.num_rows)::bigint as num_rows,
    any_value(licences.hours) as hours,
from licences
inner join intended_use on true
inner join patterns
    on
        patterns.use = intended_use.use
        -- "free for commercial and non-commercial use" forbids nothing.
        and regexp_matches(
            regexp_replace(lower(licences.license), 'commercial (and|or|as well as) non[- ]?commercial', ''),
            patterns.pattern
        )
group by licences.corpus, licences.license
order by licences.corpus, licences.license;
