-- Rows of sentence pairs → bitext. One row per row of the file.
with read as (
    select
        * exclude (corpus),
        coalesce(corpus, $corpus, $stem) as corpus,
    from fields
)

select
    place,
    coalesce(id, content_id(corpus, coalesce(src, '') || chr(31) || coalesce(tgt, ''))) as pair_id,
    corpus,
    src_lang,
    tgt_lang,
    src,
    tgt,
    coalesce(license, $license) as license,
    coalesce(split, $split) as split,
    case
        when reason is not null then reason
        when src is null or tgt is null then 'empty_text'
        when src_lang is null or tgt_lang is null then 'no_language'
    end as reason,
    case
        when reason is not null then detail
        when src is null or tgt is null then place || ': `src` or `tgt` is empty'
        when src_lang is null or tgt_lang is null
            then place || ': no `src_lang` or `tgt_lang`; or name the file NAME.en-zh.tsv'
    end as detail,
from read
