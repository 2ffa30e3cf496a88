-- What an export takes. One row per table.
select 'utterances' as table_name, count(*) as num_rows
from ({export_chosen})
union all
select 'alignments' as table_name, count(*) as num_rows
from (select distinct utt_id from alignments)
semi join ({export_chosen}) as chosen using (utt_id)
union all
select 'bitext' as table_name, count(*) as num_rows
from bitext
where $whole
    and ($split is null or split = $split)
    and ($corpus is null or corpus = $corpus)
    and ($languages is null or list_has_all($languages, [src_lang, tgt_lang]))
union all
select 'dialogues' as table_name, count(*) as num_rows
from dialogues
where $whole
    and ($split is null or split = $split)
    and ($corpus is null or corpus = $corpus)
    and ($languages is null or list_has_all($languages, list_transform(turns, lambda t: t.language)))
