-- title: Rows without a licence
-- severity: warning
-- why: What nobody gave away may not be used; what is in no list is found out late.
-- fix: Ingest again with --license, or with `license` in the manifest.

-- One row per (table, corpus, licence).
with held as (
    select 'utterances' as table_name, corpus, license, duration_s from utterances
    union all
    select 'bitext' as table_name, corpus, license, 0 as duration_s from bitext
    union all
    select 'dialogues' as table_name, corpus, license, 0 as duration_s from dialogues
)

select table_name, corpus, coalesce(license, '') as license, count(*) as num_rows, sum(duration_s) / 3600 as hours
from held
where regexp_matches(lower(trim(coalesce(license, ''))), '^(|unknown|unclear|unspecified|not specified|none|n/?a|null|other|custom|tbd|\?+)$')
group by table_name, corpus, coalesce(license, '')
order by table_name, corpus, coalesce(license, '');
