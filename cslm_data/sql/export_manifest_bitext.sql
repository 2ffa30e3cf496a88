-- Sentences with their translations, corpus by corpus. One row per pair.
select pair_id, corpus, src_lang, tgt_lang, src, tgt, license, split
from bitext
where $whole
    and ($split is null or split = $split)
    and ($corpus is null or corpus = $corpus)
    and ($languages is null or list_has_all($languages, [src_lang, tgt_lang]))
order by corpus, pair_id
