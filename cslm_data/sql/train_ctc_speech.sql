-- How much transcribed speech each language has that the embedded aligner can be trained on: not too
-- long, of some languages (null: of all). One row per language.
select language, sum(duration_s) as seconds
from utterances
where
    "text" is not null
    and duration_s <= $longest_s
    and ($languages is null or language in (select unnest($languages)))
group by language
order by language
