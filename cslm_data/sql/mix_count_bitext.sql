-- Rows that mix_bitext would choose of the whole catalog. One row.
select count(*)
from bitext
where
    ({where})
    and (
        (src_lang = $language and tgt_lang = $answer_language)
        or (tgt_lang = $language and src_lang = $answer_language)
    )
