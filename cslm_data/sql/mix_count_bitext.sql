-- Candidates of mt with their tokens, the wording of the prompt apart: translations from a language to
-- another, whichever way round the corpus has them. One row per pair.
-- {where} and {order_by} are the recipe's, over `bitext`.
with chosen as (
    select
        key_hash as id_hash,
        split,
        case when src_lang = $language then src_key else tgt_key end as sentence,
        md5_number_lower(src) as src_hash,
        md5_number_lower(tgt) as tgt_hash,
        strlen(src) + strlen(tgt) as text_bytes,
        {order_by} as quality,
    from bitext
    where
        (
            (src_lang = $language and tgt_lang = $answer_language)
            or (tgt_lang = $language and src_lang = $answer_language)
        )
        and ({where})
)

select
    chosen.id_hash,
    $fixed_tokens + coalesce(one.num_tokens, 0) + coalesce(other.num_tokens, 0) as num_tokens,
    0 as num_units,
    tar_bytes($fixed_bytes + chosen.text_bytes) as num_bytes,
    chosen.sentence,
    chosen.split as split_name,
    chosen.quality,
    null::varchar as reject_reason,
    null::varchar as reject_detail,
from chosen
left join token_counts as one on chosen.src_hash = one.text_hash
left join token_counts as other on chosen.tgt_hash = other.text_hash
