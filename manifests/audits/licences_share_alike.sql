-- title: Licences that pass their terms on
-- severity: info
-- why: ShareAlike and GPL ask that what is derived is given away under the same terms; whether a model
--   is derived is argued about.
-- fix: Ask those who decide about it, before training.

-- One row per (corpus, licence).
with held as (
    select corpus, license, duration_s from utterances
    union all
    select corpus, license, 0 as duration_s from bitext
    union all
    select corpus, license, 0 as duration_s from dialogues
)

select corpus, license, count(*) as num_rows, sum(duration_s) / 3600 as hours
from held
where regexp_matches(lower(license), '\bsa\b|share-?alike|\b[al]?gpl|\bodbl\b|copyleft')
group by corpus, license
order by corpus, license;
