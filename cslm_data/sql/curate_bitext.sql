-- What the predicate of a filter is asked of: the translations that were not moved out, with what was
-- detected of both sides. One row per pair. {where} is the predicate.
with candidates as (
    select
        bitext.*,
        len(bitext.src) as src_characters,
        len(bitext.tgt) as tgt_characters,
        of_src.detected as src_detected,
        of_tgt.detected as tgt_detected,
    from bitext
    left join text_languages as of_src
        on md5_number_lower(bitext.src) = of_src.text_hash and bitext.src_lang = of_src.language
    left join text_languages as of_tgt
        on md5_number_lower(bitext.tgt) = of_tgt.text_hash and bitext.tgt_lang = of_tgt.language
)

select
    pair_id as id,
    null::varchar as duplicate_of,
from candidates
where ({where})
