-- Languages that the catalog holds anything in. One row per language.
select language from utterances
union
select src_lang as language from bitext
union
select tgt_lang as language from bitext
union
select language from dialogues
order by language
