-- Languages that the rows of {raw} say. One row per language.
select distinct unnest({languages}) as language
from {raw} as raws
where reason is null
order by language
